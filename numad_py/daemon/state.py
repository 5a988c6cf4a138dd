# SPDX-License-Identifier: Apache-2.0

"""Keep small values over restarts, in files that are whole or not there."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog

Value = TypeVar("Value")

DEFAULT: Final = Path("/var/lib/numad-py")


def folder() -> Path:
    """Give the folder that systemd made for us (StateDirectory=), else the packaged one, made if need be."""
    path = Path(os.environ.get("STATE_DIRECTORY", str(DEFAULT)).partition(":")[0])
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def load(path: Path, kind: type[Value]) -> Value | None:
    """Read a value back; None where there is none, or none of that kind, which is said and put aside."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # msgspec's own, and that of bytes that are no text
        aside = path.with_suffix(".broken")
        structlog.get_logger().warning("state not read", file=str(path), why=str(error), kept_as=str(aside))
        with suppress(OSError):  # a disk that cannot be read may not be written either
            path.replace(aside)
        return None


def save(path: Path, value: object) -> None:
    """Write a value; after a crash at any moment there is the old one or the new one, whole."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            if os.geteuid() != (owner := path.parent.stat()).st_uid:
                with suppress(
                    PermissionError
                ):  # of root alone: else the service's own user could not read it
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
            file.write(msgspec.json.encode(value))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)  # else the name can still be the old one's
    finally:
        os.close(directory)
