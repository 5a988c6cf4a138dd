# SPDX-License-Identifier: Apache-2.0

"""Sizes are read as people write them."""

import pytest
import typer

from numad_py.cli.size import mebibytes


@pytest.mark.parametrize(
    ("text", "mb"),
    [("64M", 64), ("64m", 64), (" 1G ", 1024), ("2T", 2 << 20), ("1024K", 1), ("1048576", 1), ("1999K", 1)],
)
def test_a_size_is_whole_mebibytes(text, mb):
    assert mebibytes(text) == mb


@pytest.mark.parametrize("text", ["", "0", "1023K", "-1M", "1.5G", "64MB", "M", "٣M", "1" * 13 + "M"])
def test_what_is_no_size_of_at_least_one_is_refused(text):
    with pytest.raises(typer.BadParameter, match="is not a size of at least 1M"):
        mebibytes(text)
