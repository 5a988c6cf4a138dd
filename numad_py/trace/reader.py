# SPDX-License-Identifier: Apache-2.0

"""Read a trace as a stream: every tick, or the sentence that says what is wrong and where."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from numad_py.mendable import Mendable
from numad_py.model import Tick
from numad_py.trace import wire
from numad_py.trace.compression import count_nothing, decompressed
from numad_py.trace.files import files_of
from numad_py.trace.header import Header, header_of
from numad_py.trace.ticks import Decoder
from numad_py.trace.wire import Damage, Kind

# A hostile file could be one endless line. 10,000 processes with 1,000 regions are half of this.
_LINE_BYTES = 1 << 30


_GO_ON = "--lenient goes on behind it, at the next keyframe"
_READ_BEFORE = "--lenient reads what is before it"
_GIVE_UP = "without its header nothing in it can be read: take another copy, or record again"


class TraceError(Mendable, ValueError):
    """A trace is damaged, or not one that this version understands; ``remedy`` is what to do."""

    def __init__(self, path: Path, line: int, what: str, remedy: str = "") -> None:
        super().__init__(f"{path}, line {line}: {what}" + (f"; {remedy}" if remedy else ""))
        self.path = path
        self.line = line
        self.what = what
        self.remedy = remedy

    def __reduce__(self) -> tuple[type["TraceError"], tuple[Path, int, str, str]]:
        """Cross from one process to another whole."""
        return TraceError, (self.path, self.line, self.what, self.remedy)


@dataclass(frozen=True)
class Gap:
    """Lines that a lenient reading passed over, from ``line`` on, and what was wrong with the first.

    Lines that are lost without a trace are not among ``lines``.
    """

    path: Path
    line: int
    lines: int
    kind: Kind
    why: str


class Passed:
    """Counts by kind what a lenient reading passed over; called as its ``on_damage``."""

    def __init__(self) -> None:
        self._places: Counter[Kind] = Counter()
        self._lines: Counter[Kind] = Counter()
        self._first: dict[Kind, Gap] = {}

    def __call__(self, gap: Gap) -> None:
        self._places[gap.kind] += 1
        self._lines[gap.kind] += gap.lines
        self._first.setdefault(gap.kind, gap)

    @property
    def sentences(self) -> list[str]:
        """One for each kind of damage, with the first place."""
        return [
            f"{gap.path}, line {gap.line}: {gap.why};"
            f" passed over for {kind.value}, all in all: places {self._places[kind]}, lines {self._lines[kind]}"
            for kind, gap in self._first.items()
        ]

    @property
    def values(self) -> dict[str, dict[str, int]]:
        """The same by kind, for machines."""
        return {
            kind.value: {"places": self._places[kind], "lines": self._lines[kind], "first_line": gap.line}
            for kind, gap in self._first.items()
        }


_Report = Callable[[Gap], None] | None  # None: damage raises


def _ignore(gap: Gap) -> None:
    """Do without a report."""


def read(
    path: Path,
    *,
    lenient: bool = False,
    on_damage: Callable[[Gap], None] = _ignore,
    on_bytes: Callable[[int], None] = count_nothing,
) -> tuple[Header, Iterator[Tick]]:
    """Give a trace's header, and its ticks one by one.

    The path of a ring gives its newest boot, all segments as one. Damage raises
    TraceError, at once or while the ticks are drawn; a lenient reading tells
    ``on_damage`` and goes on with the next line that surely follows, at the latest
    the next keyframe, but needs a whole header. ``on_bytes`` is told how many bytes
    more were read of a file. Raises OSError where no file can be opened.
    """
    report = on_damage if lenient else None
    traces = list(_opened_all(path, report, on_bytes))
    if not traces:
        raise TraceError(path, 1, "no segment of this ring begins with a whole header", _GIVE_UP)
    newest = traces[-1].header
    run = list(takewhile(lambda trace: newest.follows(trace.header), reversed(traces)))[::-1]
    ignored = {name for trace in run for name in trace.header.ignored}
    return replace(run[0].header, ignored=tuple(sorted(ignored))), _ticks(run, report)


@dataclass(frozen=True)
class _Opened:
    """A file read as far as its header; closed when ``lines`` is."""

    path: Path
    header: Header
    lines: Iterator[tuple[int, bytes | Damage]]


def _opened_all(path: Path, report: _Report, on_bytes: Callable[[int], None]) -> Iterator[_Opened]:
    parts = files_of(path)
    for part in parts:
        try:
            yield _opened(part, on_bytes)
        except TraceError as error:
            if report is None or len(parts) == 1:
                raise
            report(Gap(part, error.line, sum(1 for _ in _lines(part, on_bytes)), Kind.HEADER, error.what))


def _opened(path: Path, on_bytes: Callable[[int], None]) -> _Opened:
    lines = _lines(path, on_bytes)
    number, first = next(lines, (1, Damage("the file is empty", Kind.HEADER)))
    try:
        return _Opened(path, header_of(_whole(first)), lines)
    except Damage as damage:
        raise TraceError(path, number, str(damage), damage.remedy or _GIVE_UP) from damage


def _ticks(run: list[_Opened], report: _Report) -> Iterator[Tick]:
    decoder = Decoder(run[0].header)
    for trace in run:
        decoder.begin()
        yield from _strict(trace, decoder) if report is None else _lenient(trace, decoder, report)


def _strict(trace: _Opened, decoder: Decoder) -> Iterator[Tick]:
    ignored = frozenset(trace.header.ignored)
    for number, line in trace.lines:
        tick = _decoded(decoder, line, ignored)
        if isinstance(tick, Damage):
            remedy = _READ_BEFORE if tick.kind is Kind.CUT else _GO_ON
            raise TraceError(trace.path, number, str(tick), remedy) from tick
        yield tick


def _lenient(trace: _Opened, decoder: Decoder, report: Callable[[Gap], None]) -> Iterator[Tick]:
    ignored = frozenset(trace.header.ignored)
    first = number = 1
    why: Damage | None = None
    for number, line in trace.lines:
        tick = _decoded(decoder, line, ignored, after_damage=why is not None)
        if isinstance(tick, Damage):
            first, why = (number, tick) if why is None else (first, why)
            tick = _decoded(decoder, line, ignored, after_damage=True)
        if isinstance(tick, Tick):
            if why is not None:
                report(Gap(trace.path, first, number - first, why.kind, str(why)))
            why = None
            yield tick
    if why is not None:
        report(Gap(trace.path, first, number + 1 - first, why.kind, str(why)))


def _decoded(
    decoder: Decoder, line: bytes | Damage, ignored: frozenset[str], *, after_damage: bool = False
) -> Tick | Damage:
    try:
        read = wire.decoded(_whole(line), ignored)
        if isinstance(read, wire.Header):
            return Damage("a header in the middle of a trace", Kind.ORDER)
        return decoder.tick(read, after_damage=after_damage)
    except Damage as damage:
        return damage


def _whole(line: bytes | Damage) -> bytes:
    if isinstance(line, Damage):
        raise line
    return line


def _lines(path: Path, on_bytes: Callable[[int], None]) -> Iterator[tuple[int, bytes | Damage]]:
    """Yield each line with its number; in the place of one that cannot be had, why, and then no more."""
    number, parts, length = 1, [b""], 0
    with path.open("rb") as file:
        try:
            for piece in decompressed(file, path, on_bytes):
                length += len(piece)
                first, *others = piece.split(b"\n")
                parts.append(first)
                for part in others:
                    yield number, b"".join(parts)
                    number, parts, length = number + 1, [part], len(part)
                if length > _LINE_BYTES:
                    raise Damage(f"a line longer than {_LINE_BYTES} bytes", Kind.CUT)  # noqa: TRY301
            if any(parts):
                yield number, b"".join(parts)
        except Damage as damage:
            yield number, damage
