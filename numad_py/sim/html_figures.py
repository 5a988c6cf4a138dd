# SPDX-License-Identifier: Apache-2.0

"""Histories as pictures: inline SVG, made of plain strings.

Units: user units of a picture `WIDTH` wide, which the page scales.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from numad_py.sim.history import History, JobHistory, Moved
from numad_py.sim.regional import RegionHistory
from numad_py.topology import Floats, Ints

WIDTH: Final = 420
COLOURS: Final = 8  # more nodes than that begin anew, paler
STEPS: Final = 8  # of shade

_LEFT, _RIGHT, _TOP, _HEIGHT = 52, 10, 14, 120
_ROW: Final = 13
_NAME_SIZE: Final = (50, 16)  # the room a node's name needs
_AXIS_UNITS: Final = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
_LEAST_LABELS: Final = 3
_LONGEST: Final = 40  # of a policy's name, which may be a path: its end tells it from others
_LINE_COLOURS: Final = (2, 5, 3, 4, 7)  # so that the first are not taken for nodes
_UNITS: Final = ((2**40, "TB"), (2**30, "GB"), (2**20, "MB"), (2**10, "KB"), (1, "B"))  # MB = 2^20


def text(value: object) -> str:
    """Make anything safe to stand in HTML: names come from traces, and whoever named a process may be hostile."""
    printable = (
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in str(value)
    )
    return html.escape("".join(printable))


def size(amount_bytes: float) -> str:
    """Give bytes in three digits, which is what the axes have room for."""
    scale, unit = next(((scale, unit) for scale, unit in _UNITS if amount_bytes * 1.024 >= scale), _UNITS[-1])
    scaled = amount_bytes / scale
    digits = max(0, 3 - len(f"{int(scaled)}")) if scale > 1 else 0
    return f"{scaled:,.{digits}f} {unit}"


def placement(name: str, job: JobHistory, history: History, top_bytes: float, moves: Sequence[Moved]) -> str:
    """Draw where a job's memory was: an area per node, one on the other, with a mark at each move."""
    across = _Time(history.edges_s)
    up = np.cumsum(job.bytes_by_node, axis=1) / max(top_bytes, 1) * _HEIGHT
    level = np.rint(_TOP + _HEIGHT - np.hstack([np.zeros((len(up), 1)), up])).astype(np.int64)
    bands = [
        f'<path class="band f{node % COLOURS}"{_pale(node)} d="{_band(across.x, level[:, node], level[:, node + 1])}">'
        f"<title>node {node_id}</title></path>"
        for node, node_id in enumerate(history.node_ids)
        if (level[:, node] != level[:, node + 1]).any()
    ]
    names = [_inside(across.x, level, node, node_id) for node, node_id in enumerate(history.node_ids)]
    marks = [_mark(across.at(moved.time_s), moved) for moved in moves]
    axes = _axes(across, [(0.0, "0"), (1.0, size(top_bytes))])
    return _picture(_TOP + _HEIGHT + 32, name, [*bands, *names, axes, *marks])


def heat(name: str, regions: Sequence[RegionHistory], history: History) -> str:
    """Draw a row for each region: from there and local to all remote."""
    across, high = _Time(history.edges_s), _ROW * len(regions)
    parts = [_heat_rows(regions, across.x), _time_axis(across, _TOP + high)]
    for row, _ in enumerate(regions):
        parts.append(f'<text x="{_LEFT - 6}" y="{_TOP + row * _ROW + 10}" text-anchor="end">{row + 1}</text>')
    return _picture(_TOP + high + 22, name, parts)


def local_shares(name: str, histories: Mapping[str, History]) -> str:
    """Draw the local share of every policy as a line, with its name where it ends."""
    across = _Time(next(iter(histories.values())).edges_s)
    lines = [
        f'<path {_stroke(index)} d="{_line(across.x[:-1], _TOP + _HEIGHT * (1 - history.local_share))}">'
        f"<title>{text(policy)}</title></path>"
        for index, (policy, history) in enumerate(histories.items())
    ]
    ends = {policy: _last(history.local_share) for policy, history in histories.items()}
    axes = _axes(across, [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")])
    return _picture(_TOP + _HEIGHT + 22, name, [axes, *lines, *_ends(ends)])


def swatch(index: int) -> str:
    """Draw the colour of a node."""
    return (
        f'<svg viewBox="0 0 14 14" aria-hidden="true"><path class="f{index % COLOURS}"{_pale(index)} '
        'd="M0 0h14v14h-14z"/></svg>'
    )


def stroke(index: int) -> str:
    """Draw the line of a policy."""
    return f'<svg viewBox="0 0 14 14" aria-hidden="true"><path {_stroke(index)} d="M0 7h14"/></svg>'


def shade(step: int) -> str:
    """Draw a shade of remote; 0 is there, and local."""
    return f'<svg viewBox="0 0 14 14" aria-hidden="true"><path {_shade(step)} d="M0 0h14v14h-14z"/></svg>'


class _Time:
    """The axis across: ``x`` are the edges of the columns."""

    def __init__(self, edges_s: Floats) -> None:
        self.end_s = float(edges_s[-1])
        self._per_s = (WIDTH - _LEFT - _RIGHT) / self.end_s if self.end_s else 0.0
        self.x: Ints = np.rint(_LEFT + edges_s * self._per_s).astype(np.int64)
        if not self.end_s:
            self.x[-1] = WIDTH - _RIGHT

    def at(self, time_s: float) -> int:
        return round(_LEFT + time_s * self._per_s)


def _picture(height: int, name: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(name)}">'
        f"<title>{text(name)}</title>{''.join(parts)}</svg>"
    )


def _axes(across: _Time, marks: list[tuple[float, str]]) -> str:
    labels = "".join(
        f'<text x="{_LEFT - 5}" y="{round(_TOP + _HEIGHT * (1 - share)) + 4}" text-anchor="end">{label}</text>'
        for share, label in marks
    )
    lines = "".join(f"M{_LEFT} {round(_TOP + _HEIGHT * (1 - share))}H{WIDTH - _RIGHT}" for share, _ in marks)
    return f'<path class="axis" d="{lines}"/>{labels}{_time_axis(across, _TOP + _HEIGHT)}'


def _time_axis(across: _Time, top: int) -> str:
    unit_s, unit = next(
        (each for each in _AXIS_UNITS if across.end_s >= _LEAST_LABELS * each[0]), _AXIS_UNITS[-1]
    )
    end = across.end_s / unit_s
    step = _step(end)
    labels = []
    for number in range(int(end / step) + 1 if step else 1):
        x = across.at(number * step * unit_s)
        label = f"{number * step:g}" + (f" {unit}" if number == 0 else "")
        labels.append(f'<text x="{x}" y="{top + 15}" text-anchor="middle">{label}</text>')
    return "".join(labels)


def _step(end: float) -> float:
    """Give a round step that divides an axis into three to seven."""
    if end <= 0:
        return 0.0
    power = 10.0 ** np.floor(np.log10(end / _LEAST_LABELS))
    return float(max(power * factor for factor in (1, 2, 5) if power * factor * _LEAST_LABELS <= end))


def _band(x: Ints, below: Ints, above: Ints) -> str:
    """Outline an area of steps, without the steps that change nothing."""
    return f"{_stairs(x, above)}{_stairs_back(x, below)}z"


def _stairs(x: Ints, y: Ints) -> str:
    turns = np.flatnonzero(np.diff(y)) + 1
    steps = "".join(f"H{x[turn]}V{y[turn]}" for turn in turns)
    return f"M{x[0]} {y[0]}{steps}H{x[-1]}"


def _stairs_back(x: Ints, y: Ints) -> str:
    turns = (np.flatnonzero(np.diff(y)) + 1)[::-1]
    steps = "".join(f"H{x[turn]}V{y[turn - 1]}" for turn in turns)
    return f"V{y[-1]}{steps}H{x[0]}"


def _line(x: Ints, y: Floats) -> str:
    """Join points, with a gap where one is not known, and without those that lie between equals."""
    known = np.isfinite(y)
    whole = np.where(known, np.rint(np.where(known, y, 0)), -1).astype(np.int64)
    path, down = [], False
    for index, (at, level) in enumerate(zip(x.tolist(), whole.tolist(), strict=True)):
        between = 0 < index < len(whole) - 1 and whole[index - 1] == level == whole[index + 1]
        if level >= 0 and not (down and between):
            path.append(f"{'L' if down else 'M'}{at} {level}")
        down = level >= 0
    return "".join(path)


def _inside(x: Ints, level: Ints, node: int, node_id: int) -> str:
    """Name a band where it is highest, if the name has room there."""
    thick = level[:, node] - level[:, node + 1]
    widest = _longest(thick >= _NAME_SIZE[1])
    if widest is None or x[widest[1]] - x[widest[0]] < _NAME_SIZE[0]:
        return ""
    middle = (widest[0] + widest[1]) // 2
    at_y = int(level[middle, node] + level[middle, node + 1]) // 2 + 4
    contrast = "in0" if node % COLOURS == 0 else "in"
    return (
        f'<text class="in {contrast}" x="{(x[widest[0]] + x[widest[1]]) // 2}" y="{at_y}" '
        f'text-anchor="middle">node {node_id}</text>'
    )


def _longest(wanted: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> tuple[int, int] | None:
    """Give the longest run of what is true, as its first index and the one behind its last."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], wanted.astype(np.int8), [0]))))
    runs = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    return max(runs, key=lambda run: run[1] - run[0], default=None)


def _mark(x: int, moved: Moved) -> str:
    y = _TOP + _HEIGHT + 20
    return f'<path class="mark" d="M{x} {y}l4 8h-8z"><title>{text(told(moved))}</title></path>'


def told(moved: Moved) -> str:
    """Say in one line what a move was, why, and what it cost and gained."""
    gains = "" if moved.saves_share is None else f"; saves {moved.saves_share:.3f} s of CPU time per second"
    return (
        f"{moved.time_s:.1f} s: {size(moved.bytes)} of {moved.comm} ({moved.pid}) from node {nodes(moved.sources)} "
        f"to {nodes(moved.targets)}, {moved.reason}; took {moved.took_s:.3f} s{gains}"
    )


def nodes(ids: Iterable[int]) -> str:
    """Write node ids in a row."""
    return ", ".join(map(str, ids))


def _heat_rows(regions: Sequence[RegionHistory], x: Ints) -> str:
    """Collect the cells of each shade in one path; a run of the same shade is one box."""
    boxes: dict[int, list[str]] = {}
    for row, region in enumerate(regions):
        known = np.isfinite(region.remote_share)
        steps = np.where(known, np.ceil(np.where(known, region.remote_share, 0) * STEPS), -1).astype(np.int64)
        edges = np.concatenate(([0], np.flatnonzero(np.diff(steps)) + 1, [len(steps)]))
        for first, behind in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            wide = int(x[behind] - x[first])
            if steps[first] >= 0 and wide:
                box = f"M{x[first]} {_TOP + row * _ROW}h{wide}v{_ROW - 2}h-{wide}z"
                boxes.setdefault(int(steps[first]), []).append(box)
    return "".join(f'<path {_shade(step)} d="{"".join(paths)}"/>' for step, paths in sorted(boxes.items()))


def _shade(step: int) -> str:
    return 'class="there"' if step == 0 else f'class="h" fill-opacity="{0.15 + 0.85 * step / STEPS:.2f}"'


def _pale(index: int) -> str:
    return ' fill-opacity=".5"' if index // COLOURS % 2 else ""


def _stroke(index: int) -> str:
    colour = _LINE_COLOURS[index % len(_LINE_COLOURS)]
    dashes = ("", "6 3", "2 3", "8 3 2 3")[index % 4]
    return f'class="line s{colour}"' + (f' stroke-dasharray="{dashes}"' if dashes else "")


def _last(shares: Floats) -> float:
    known = shares[np.isfinite(shares)]
    return float(known[-1]) if len(known) else 0.0


def _ends(ends: Mapping[str, float]) -> Iterable[str]:
    """Write names over the ends of lines, highest first, none on another."""
    lowest = -_ROW
    for policy, share in sorted(ends.items(), key=lambda end: -end[1]):
        lowest = max(lowest + _ROW, round(_TOP + _HEIGHT * (1 - share)) - 4)
        yield f'<text class="name" x="{WIDTH - _RIGHT}" y="{lowest}" text-anchor="end">{text(policy[-_LONGEST:])}</text>'
