# SPDX-License-Identifier: Apache-2.0

"""A file of a sweep's results, one JSON line a point, that outlives an interruption.

Problem: a sweep takes hours, and somebody or a crash stops it in the middle.
Primitive: each point has a name made of all that its result depends on, and one line in a file that only grows.
Application: points whose lines are there are not replayed again; a last line that was torn is cut off.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from numad_py.profile import ProfileError

_FIRST_KEY: Final = b'{"point":"'


def name_of(**depends_on: Any) -> str:
    """Give the same name to what depends on the same."""
    text = json.dumps(depends_on, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sha256_of(paths: Sequence[Path]) -> str:
    """Hash what files hold, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


class Results:
    """Results by the names of their points; where there is a file, it has each as soon as it is added."""

    def __init__(self, file: BinaryIO | None, known: Mapping[str, dict[str, Any]]) -> None:
        self._file, self.by_point = file, dict(known)

    def add(self, point: str, result: Mapping[str, Any]) -> None:
        """Take one result; its line is one write, so only the last line can be torn."""
        self.by_point[point] = {"point": point, **result}
        if self._file:
            self._file.write(msgspec.json.encode(self.by_point[point]) + b"\n")
            self._file.flush()


@contextmanager
def opened(path: Path | None) -> Iterator[Results]:
    """Open a file of results for this process alone; raise ProfileError where it is something else, or in use."""
    if path is None:
        yield Results(None, {})
        return
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProfileError(f"{path}: another sweep writes it: wait, or name another file") from None
        yield Results(file, dict(_healed(path, file)))


def _healed(path: Path, file: BinaryIO) -> Iterator[tuple[str, dict[str, Any]]]:
    file.seek(0)
    whole = 0
    for number, line in enumerate(file, 1):
        if not line.startswith(_FIRST_KEY[: len(line)]):
            raise ProfileError(f"{path}, line {number}: is no result of a sweep: name another file")
        if not line.endswith(b"\n"):
            file.truncate(whole)
            return
        try:
            result = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            raise ProfileError(f"{path}, line {number}: is damaged: take the line out") from None
        yield result["point"], result
        whole += len(line)
