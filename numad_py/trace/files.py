# SPDX-License-Identifier: Apache-2.0

"""Traces on disk: one file, or a ring of files that keeps the last so many bytes.

Nothing is ever overwritten, and no link at the end of a path followed: the writer may be root.
"""

import os
import re
from dataclasses import replace
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from numad_py.model import Tick
from numad_py.trace.compression import compression_ending, compressor
from numad_py.trace.header import Header, line_of
from numad_py.trace.ticks import Encoder

# Room for a new segment is made before it begins, so a full ring holds some three quarters of its bytes.
_SEGMENTS = 8


class Writer:
    """Writes one trace; every tick is in the file, readable, when ``write`` returns.

    Raises FileExistsError rather than overwrite. After an OSError (a full
    disk) the file ends with the last whole line, and the writer is closed.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._encoder = Encoder(header)
        self._compressor = compressor(path)
        self._file = _create(path)
        self.size_bytes = 0
        try:
            self._append(self._compressor.flushed(line_of(header)))
        except OSError:
            path.unlink()  # an empty file, which would be in the way of the next
            raise

    def write(self, tick: Tick) -> None:
        """Append the tick."""
        self._append(self._compressor.flushed(self._encoder.line(tick)))

    def close(self) -> None:
        """End the file; closing again does nothing."""
        if not self._file.closed:
            self._append(self._compressor.end())
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, data: bytes) -> None:
        try:
            _write_all(self._file, data)
        except OSError:
            self._file.truncate(self.size_bytes)
            self._file.close()
            raise
        self.size_bytes += len(data)


class RingWriter:
    """Writes a flight recorder: numbered segments beside ``path``, the oldest deleted in time.

    ``trace.jsonl.zst`` becomes ``trace.000001.jsonl.zst`` and so on, each a
    trace of its own. Together they take at most ``size_bytes`` and one tick.
    Where nodes or CPUs came or went, a new segment begins.
    A new writer goes on behind the segments that it finds.
    """

    def __init__(self, path: Path, header: Header, size_bytes: int) -> None:
        self._path = path
        self._header = header
        self._segment_bytes = size_bytes // _SEGMENTS
        self._kept_bytes = size_bytes - self._segment_bytes
        self._segment = self._next_segment()

    def write(self, tick: Tick) -> None:
        """Append the tick, in a new segment if this one is full, or of another topology."""
        changed = tick.snapshot.topology != self._header.topology
        if changed:
            self._header = replace(self._header, topology=tick.snapshot.topology)
        if changed or self._segment.size_bytes >= self._segment_bytes:
            self._segment.close()
            self._segment = self._next_segment()
        self._segment.write(tick)

    def close(self) -> None:
        """End the newest segment; closing again does nothing."""
        self._segment.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next_segment(self) -> Writer:
        segments = _numbered_segments(self._path)
        total_bytes = 0
        for _, segment in reversed(segments):
            total_bytes += segment.lstat().st_size
            if total_bytes > self._kept_bytes:
                segment.unlink()
        last = segments[-1][0] if segments else 0
        stem, ending = _stem_and_ending(self._path)
        return Writer(self._path.with_name(f"{stem}.{last + 1:06}{ending}"), self._header)


def ring_segments(path: Path) -> list[Path]:
    """Give the files of the ring at that path, oldest first; none if no ring is there."""
    return [segment for _, segment in _numbered_segments(path)]


def files_of(path: Path) -> list[Path]:
    """Give the files of a trace: itself, or all segments of a ring; itself, too, where nothing is there."""
    return [path] if path.exists() else ring_segments(path) or [path]


def _numbered_segments(path: Path) -> list[tuple[int, Path]]:
    stem, ending = _stem_and_ending(path)
    name = re.compile(rf"{re.escape(stem)}\.(\d{{6,}}){re.escape(ending)}", re.ASCII)
    found = ((name.fullmatch(entry.name), entry) for entry in path.parent.iterdir())
    return sorted((int(match[1]), entry) for match, entry in found if match)


def _stem_and_ending(path: Path) -> tuple[str, str]:
    """Split ``trace.jsonl.zst`` into ``trace`` and ``.jsonl.zst``."""
    compression = compression_ending(path)
    text = Path(path.name.removesuffix(compression))
    return text.stem, text.suffix + compression


def _create(path: Path) -> FileIO:
    # O_EXCL makes open(2) fail on a symbolic link too, wherever it points.
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise FileExistsError(f"{path} exists, and a trace overwrites nothing: name another file") from None
    return FileIO(descriptor, "w")


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
