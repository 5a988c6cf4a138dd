# SPDX-License-Identifier: Apache-2.0

"""Scores for people, as a table, and for machines, as plain values."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from rich.table import Column, Table

from numad_py.sim.replay import BASELINE
from numad_py.sim.score import Score
from numad_py.sim.timeline import halved, sparkline

OVER_TIME: Final = "local over time"
HEADLINE: Final = "modelled time / hold"
AT_MOST: Final = "  at the most"
TIME: Final = "time / hold"
FITTED: Final = "  fitted figures ±20 %"
WORTH_NAMING_SHARE: Final = 1e-6  # of modelled time, below which nothing could be gained
DIGITS: Final = 9  # significant ones: enough to compare, and the same on every machine
CAPTION: Final = (
    "`hold` moves nothing: a time below 1 is shorter than without any moves. Modelled, not measured: remote "
    "accesses and time come from a cost model, on the demand that the trace recorded. The possible gain is a "
    "bound: an oracle's, with room and moving time without end."
)
OTHERS: Final = frozenset({"kernel-balancing", "numad"})
DOUBT: Final = (
    " kernel-balancing and numad are models: beside guests each missed two of nine workloads by more than 20 % "
    "(docs/simulating.md)."
)

_ROOMY: Final = 3  # policies that fit a terminal of 80 columns beside sparklines of full length
_FITTING: Final = 5  # that fit at all

_ROWS: Final[Mapping[str, Callable[[Score, Score], str]]] = {
    "local at the end": lambda score, _: _share(score.local_share_end),
    "local on average": lambda score, _: _share(score.local_share_mean),
    OVER_TIME: lambda score, _: sparkline(score.timeline),
    "settled, slowest job": lambda score, _: _settled(score),
    "accesses seen": lambda score, _: _share(score.seen_share),
    "modelled remote access": lambda score, _: _share(score.remote_access_share),
    HEADLINE: lambda score, hold: _ratio(time_to_baseline(score, hold)),
    "  at the least": lambda score, hold: _ratio(_at_an_end(score, hold, min)),
    AT_MOST: lambda score, hold: _ratio(_at_an_end(score, hold, max)),
    "  with perfect sight": lambda score, hold: _ratio(perfect_to_baseline(score, hold)),
    "time of jobs / hold": lambda score, hold: _ratio(mean_job_ratio(score, hold)),
    "slowest job / hold": lambda score, hold: _ratio(worst_job_ratio(score, hold)),
    "of the possible gain": lambda score, hold: _share(gained_share(score, hold)),
    "moved, MB": lambda score, _: f"{score.moved_bytes / 2**20:,.0f}",
    "moved, pages": lambda score, _: f"{score.moved_pages:,}",
    "CPU time of moving, s": lambda score, _: f"{score.moving_s:.3f}",
    "jobs blocked, s": lambda score, _: f"{score.blocked_s:.3f}",
    "moves decided": lambda score, _: f"{score.decisions:,}",
    "tasks moved": lambda score, _: f"{score.task_moves:,}",
    "held back by the guard": lambda score, _: f"{score.held:,}",
}

BRIEF: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    TIME: lambda values: _ratio(values["modelled_time_to_hold"]),
    "slowest job / hold": lambda values: _ratio(values["worst_job_to_hold"]),
    "of the gain": lambda values: _share(values["gained_share"]),
    "local at the end": lambda values: _share(values["local_share_end"]),
    "moved, MB": lambda values: f"{values['moved_bytes'] / 2**20:,.0f}",
}
"""Cells of one policy in a row, from its ``values``."""


def time_to_baseline(score: Score, baseline: Score) -> float | None:
    """Give modelled time as a multiple of the baseline's; None where that is 0."""
    return score.modelled_s / baseline.modelled_s if baseline.modelled_s else None


def perfect_to_baseline(score: Score, baseline: Score) -> float | None:
    """Give the same for a policy that sees the machine as it is; None where that was not tried."""
    if score.perfect_s is None or not baseline.modelled_s:
        return None
    return score.perfect_s / baseline.modelled_s


def mean_job_ratio(score: Score, baseline: Score) -> float | None:
    """Give how long jobs take for their work, over what they take under the baseline, on average of the jobs."""
    ratios = _job_ratios(score, baseline)
    return sum(ratios) / len(ratios) if ratios else None


def worst_job_ratio(score: Score, baseline: Score) -> float | None:
    """Give the same of the job that fares worst."""
    return max(_job_ratios(score, baseline), default=None)


def _job_ratios(score: Score, baseline: Score) -> list[float]:
    both = score.job_s.keys() & {path for path, took_s in baseline.job_s.items() if took_s}
    return [score.job_s[path] / baseline.job_s[path] for path in sorted(both)]


def ends_to_baseline(score: Score, baseline: Score) -> tuple[float, ...]:
    """Give modelled time as a multiple of the baseline's, at both ends of what nobody knows."""
    both = zip(score.modelled_ends_s, baseline.modelled_ends_s, strict=True)
    return tuple(mine / its for mine, its in both if its)


def _at_an_end(score: Score, baseline: Score, which: Callable[..., float | None]) -> float | None:
    middle = time_to_baseline(score, baseline)
    known = () if middle is None else (middle,)
    return which((*known, *ends_to_baseline(score, baseline)), default=None)


def gained_share(score: Score, baseline: Score) -> float | None:
    """Give the part that was gained of what an oracle would have; None where there was nothing to gain."""
    least_s = baseline.least_anywhere_s if score.task_moves else baseline.least_s
    to_gain_s = baseline.modelled_s - least_s if least_s is not None else 0.0
    if to_gain_s <= WORTH_NAMING_SHARE * baseline.modelled_s:
        return None
    return (baseline.modelled_s - score.modelled_s) / to_gain_s


def best_first(scores: Mapping[str, Score]) -> dict[str, Score]:
    """Order policies by modelled time; those that are equal stay as they were given."""
    return dict(sorted(scores.items(), key=lambda named: named[1].modelled_s))


def caption(names: Iterable[str]) -> str:
    """Say how figures of these policies are to be read."""
    return CAPTION + ("" if OTHERS.isdisjoint(names) else DOUBT)


def rows(scores: Mapping[str, Score]) -> list[list[str]]:
    """Give every figure as words: its name, and then one cell per policy; the baseline must be among them."""
    return [
        [label, *(cell(score, scores[BASELINE]) for score in scores.values())]
        for label, cell in _ROWS.items()
    ]


def ranges(runs: Sequence[Mapping[str, Score]]) -> dict[str, tuple[float, float]]:
    """Give by policy the least and the most that its time to the baseline's was in any of the runs."""
    found = {name: [time_to_baseline(scores[name], scores[BASELINE]) for scores in runs] for name in runs[0]}
    known = {name: [each for each in times if each is not None] for name, times in found.items()}
    return {name: (min(times), max(times)) for name, times in known.items() if times}


def table(
    title: str, scores: Mapping[str, Score], ranges: Mapping[str, tuple[float, float]] | None = None
) -> Table:
    """Lay out one column per policy, the best first; the baseline must be among them."""
    ranked = best_first(scores)
    if len(ranked) > _ROOMY:
        ranked = {name: replace(score, timeline=halved(score.timeline)) for name, score in ranked.items()}
    drawn = Table(title=title, title_justify="left", caption=caption(scores), caption_justify="left")
    if len(ranked) > _FITTING:
        return _brief(drawn, ranked, ranges or {})
    drawn.add_column("policy", no_wrap=True)
    for name in ranked:
        drawn.add_column(name, justify="right", overflow="fold")
    for row in rows(ranked):
        drawn.add_row(*row)
        if row[0] == AT_MOST and ranges:
            drawn.add_row(FITTED, *("{:.2f}–{:.2f}".format(*ranges[name]) for name in ranked))
    return drawn


def _brief(drawn: Table, ranked: Mapping[str, Score], ranges: Mapping[str, tuple[float, float]]) -> Table:
    """Lay out one row per policy, with as many figures as fit."""
    drawn.add_column("policy", overflow="fold")
    for label in (*BRIEF, *([FITTED] if ranges else [])):
        drawn.add_column(label, justify="right")
    for name, figures in values(ranked).items():
        fitted = ["{:.2f}–{:.2f}".format(*ranges[name])] if ranges else []
        drawn.add_row(name, *(cell(figures) for cell in BRIEF.values()), *fitted)
    narrow(drawn.columns[1:])
    return drawn


def narrow(columns: Iterable[Column]) -> None:
    """Fold headers, and no figure: where a table does not fit, Rich would cut both."""
    for column in columns:
        column.width = max(map(len, (*str(column.header).split(), *map(str, column.cells))))


def values(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Give every figure by policy, fit for JSON; the baseline must be among them."""
    return {
        name: _rounded(
            asdict(score)
            | {
                "seen_share": score.seen_share,
                "remote_access_share": score.remote_access_share,
                "worst_settle_s": score.worst_settle_s,
                "modelled_time_to_hold": time_to_baseline(score, scores[BASELINE]),
                "modelled_ends_to_hold": ends_to_baseline(score, scores[BASELINE]),
                "perfect_to_hold": perfect_to_baseline(score, scores[BASELINE]),
                "mean_job_to_hold": mean_job_ratio(score, scores[BASELINE]),
                "worst_job_to_hold": worst_job_ratio(score, scores[BASELINE]),
                "gained_share": gained_share(score, scores[BASELINE]),
            }
        )
        for name, score in scores.items()
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, tuple) else value


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.1f} %"


def _ratio(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.3f}"


def _settled(score: Score) -> str:
    if not score.settle_s:
        return "–"
    return "never" if score.worst_settle_s is None else f"{score.worst_settle_s:.1f} s"
