# SPDX-License-Identifier: Apache-2.0

"""Sizes as people write them on a command line."""

import re

import typer

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def mebibytes(text: str) -> int:
    """Turn "64M" or "1G" into MB = 2^20 bytes; at least one."""
    match = re.fullmatch(r"([0-9]{1,12})([KMGT]?)", text.strip().upper())
    size = int(match[1]) * _UNITS[match[2]] >> 20 if match else 0
    if not size:
        raise typer.BadParameter(f"{text!r} is not a size of at least 1M, as 64M or 1G")
    return size
