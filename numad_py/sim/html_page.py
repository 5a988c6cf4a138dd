# SPDX-License-Identifier: Apache-2.0

"""Replays as one page that needs nothing else: no network, no script, no font."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from numad_py.sim import html_figures as figures
from numad_py.sim import report
from numad_py.sim.history import History, JobHistory, Moved
from numad_py.sim.html_figures import size, text
from numad_py.sim.regional import RegionHistory
from numad_py.sim.score import Score
from numad_py.topology import Floats

_MOMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Replay:
    """One trace: a title, and by policy the figures and the history; the baseline must be among the policies."""

    title: str
    scores: Mapping[str, Score]
    histories: Mapping[str, History]


def page(replays: Sequence[Replay]) -> str:
    """Give the whole document."""
    style = resources.files("numad_py.sim").joinpath("page.css").read_text(encoding="utf-8")
    title = ", ".join(replay.title.split(":")[0] for replay in replays)
    caption = report.caption(name for each in replays for name in each.scores).replace("`", "")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}: numad-py simulate</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>What other policies would have made of it</h1>\n<p>{text(caption)}</p>\n"
        f"{''.join(map(_replay, replays))}</main>\n</body>\n</html>\n"
    )


def _replay(replay: Replay) -> str:
    ranked = report.best_first(replay.scores)
    replay = Replay(replay.title, ranked, {name: replay.histories[name] for name in ranked})
    parts = (_figures, _local_shares, _placements, _remote, _moves)
    return f"<section>\n<h2>{text(replay.title)}</h2>\n{''.join(part(replay) for part in parts)}</section>\n"


def _figures(replay: Replay) -> str:
    return _table(
        "All figures, the shortest modelled time first",
        ["", *replay.scores],
        [row for row in report.rows(replay.scores) if row[0] != report.OVER_TIME],  # which is drawn below
    )


def _local_shares(replay: Replay) -> str:
    name = "Local share of the jobs' unbound anonymous memory over time, by policy"
    drawn = figures.local_shares(name, replay.histories)
    return (
        f"<h3>Local share over time</h3>\n<figure>{drawn}</figure>\n"
        f"{_key((figures.stroke(index), policy) for index, policy in enumerate(replay.histories))}"
    )


def _placements(replay: Replay) -> str:
    first = _first(replay)
    named = _names([job.path if job.cgroup_id is None else (job.path, job.cgroup_id) for job in first.jobs])
    key = _key((figures.swatch(index), f"node {node}") for index, node in enumerate(first.node_ids))
    drawn = "".join(_job(replay, index, name) for index, name in enumerate(named))
    return (
        "<h3>Where each job's memory was</h3>\n<p>Resident bytes by node, one on the other, over time. "
        f"A triangle is a move; the list of moves tells why.</p>\n{key}{drawn}"
        f"<details><summary>Placement as a table</summary>\n{_placement_table(replay, named)}</details>\n"
    )


def _job(replay: Replay, index: int, name: str) -> str:
    jobs = {policy: history.jobs[index] for policy, history in replay.histories.items()}
    top_bytes = max(float(job.bytes_by_node.sum(axis=1).max(initial=0)) for job in jobs.values())
    drawn = "".join(
        f"<figure><figcaption>{text(policy)}</figcaption>"
        + figures.placement(
            f"{name} under {policy}: resident bytes by node over time",
            job,
            replay.histories[policy],
            top_bytes,
            [moved for moved in replay.histories[policy].moves if moved.cgroup_id == job.cgroup_id],
        )
        + "</figure>"
        for policy, job in jobs.items()
    )
    return f'<h3>{text(name)}</h3>\n<div class="side">{drawn}</div>\n'


def _placement_table(replay: Replay, named: Sequence[str]) -> str:
    moments = [f"at {_moment(_first(replay), share):,.0f} s" for share in _MOMENTS]
    return _table(
        "Resident bytes by node at five moments",
        ["job", "policy", "node", *moments],
        [
            [name, policy, str(node), *_sizes(history.jobs[index], column)]
            for index, name in enumerate(named)
            for policy, history in replay.histories.items()
            for column, node in enumerate(history.node_ids)
        ],
        words=3,
    )


def _moment(history: History, share: float) -> float:
    return float(history.edges_s[_column(len(history.edges_s) - 1, share)])


def _column(columns: int, share: float) -> int:
    return round((columns - 1) * share)


def _sizes(job: JobHistory, node: int) -> list[str]:
    return [size(job.bytes_by_node[_column(len(job.bytes_by_node), share), node]) for share in _MOMENTS]


def _remote(replay: Replay) -> str:
    first = _first(replay)
    if not first.regions:
        return ""
    drawn = "".join(
        f"<figure><figcaption>{text(policy)}</figcaption>"
        + figures.heat(f"Remote share of each region over time, under {policy}", history.regions, history)
        + "</figure>"
        for policy, history in replay.histories.items()
    )
    shades = (0, 1, figures.STEPS // 2, figures.STEPS)
    words = ("there, all of it local", "a little is remote", "half is remote", "all is remote")
    key = _key((figures.shade(step), word) for step, word in zip(shades, words, strict=True))
    return (
        f"<h3>What was remote, by region</h3>\n<p>{_what_is_remote(first.regions)} A row is a region, with its number "
        f"in the table below; blank is where it was not there, or not among the {len(first.regions)} largest.</p>\n"
        f'{key}<div class="side">{drawn}</div>\n{_region_table(replay)}'
    )


def _what_is_remote(regions: Iterable[RegionHistory]) -> str:
    if any(region.accesses_from_s is not None for region in regions):
        return (
            "The share of accesses that another node would serve, by the latest investigation of the process; where "
            "there was none yet, the share of bytes away from where the process ran. The table says which."
        )
    return (
        "The trace has no accesses, so this is the share of each region's bytes away from where its process ran: "
        "where memory was, and not what it cost."
    )


def _region_table(replay: Replay) -> str:
    first = _first(replay)
    return _table(
        "The largest regions, and how much of each was remote on average",
        ["region", "job", "process", "kind", "begins at", "largest", "share of", *replay.histories],
        [
            [
                str(index + 1),
                region.path,
                f"{region.comm} ({region.pid})",
                region.kind.name.lower(),
                f"{region.start:#x}",
                size(region.peak_bytes),
                _measure(region),
                *(_mean(history.regions[index].remote_share) for history in replay.histories.values()),
            ]
            for index, region in enumerate(first.regions)
        ],
        words=5,
    )


def _measure(region: RegionHistory) -> str:
    return "bytes" if region.accesses_from_s is None else f"accesses, from {region.accesses_from_s:,.0f} s"


def _mean(shares: Floats) -> str:
    known = shares[np.isfinite(shares)]
    return f"{known.mean() * 100:.0f} %" if len(known) else "–"


def _moves(replay: Replay) -> str:
    return "<h3>Moves</h3>\n" + "".join(
        _moves_of(policy, history) for policy, history in replay.histories.items()
    )


def _moves_of(policy: str, history: History) -> str:
    if not history.moves:
        return f"<p>{text(policy)}: none.</p>\n"
    left_out = f"; the {len(history.moves)} that moved most" if history.decided > len(history.moves) else ""
    return _table(
        f"{policy}: {history.decided:,} moves{left_out}. What is saved is modelled, and holds while the process runs as it "
        "did when it was moved; below 0 it is lost.",
        list(_MOVE_COLUMNS),
        [[cell(moved) for cell in _MOVE_COLUMNS.values()] for moved in history.moves],
        words=5,
    )


_MOVE_COLUMNS: Mapping[str, Callable[[Moved], str]] = {
    "at": lambda moved: f"{moved.time_s:,.1f} s",
    "process": lambda moved: f"{moved.comm} ({moved.pid})",
    "job": lambda moved: moved.path,
    "nodes": lambda moved: f"{figures.nodes(moved.sources)} → {figures.nodes(moved.targets)}",
    "reason": lambda moved: moved.reason,
    "moved": lambda moved: size(moved.bytes),
    "took": lambda moved: f"{moved.took_s:.3f} s",
    "ended": lambda moved: moved.ending,
    "CPU time saved per s": lambda moved: "–" if moved.saves_share is None else f"{moved.saves_share:.3f} s",
    "paid back after": lambda moved: "–" if moved.paid_back_s is None else f"{moved.paid_back_s:,.1f} s",
}


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """Lay out a table; its first columns are words, the others figures."""
    kinds = [' class="text"' if index < words else "" for index in range(len(head))]
    heads = "".join(
        f'<th scope="col"{kind}>{text(name)}</th>' for kind, name in zip(kinds, head, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{_cell(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>\n<caption>{text(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def _cell(words: str) -> str:
    """Let paths be broken behind their slashes only."""
    return text(words).replace("/", "/<wbr>")


def _key(entries: Iterable[tuple[str, str]]) -> str:
    return f'<ul class="key">{"".join(f"<li>{drawn}{text(word)}</li>" for drawn, word in entries)}</ul>\n'


def _names(jobs: Sequence[str | tuple[str, int]]) -> list[str]:
    """Name jobs by path; a cgroup made anew at the same path is another job."""
    paths = Counter(job[0] for job in jobs if isinstance(job, tuple))
    return [
        job if isinstance(job, str) else job[0] if paths[job[0]] == 1 else f"{job[0]} (cgroup {job[1]})"
        for job in jobs
    ]


def _first(replay: Replay) -> History:
    return next(iter(replay.histories.values()))
