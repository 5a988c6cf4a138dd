# SPDX-License-Identifier: Apache-2.0

"""Replay traces and scenarios at every point of a grid of settings, and go on where that was interrupted."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from numad_py import __version__, profiles
from numad_py.cli import outsiders, plain, settings
from numad_py.cli.progress import bar
from numad_py.cli.replaying import Case, Conditions, begun, made, refuse_empty
from numad_py.guard import Limits
from numad_py.profile import Profile
from numad_py.sim import pool, replay, report, results, script, shipped
from numad_py.sim.score import Score
from numad_py.sim.sight import Acuity
from numad_py.trace import Passed, files_of

Result = Mapping[str, Any]

MOST_TOGETHER: Final = 8  # points that share one decoding pass, and are lost together when a sweep is stopped
_BATCHES_EACH: Final = 4  # for each process, at the least where there are enough points


@dataclass(frozen=True)
class _Source:
    """A trace, or a scenario with its mapping, and the hash of what its files hold."""

    path: Path
    sha256: str
    mapping: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Point:
    """One replay of the grid, by a name made of all that its result depends on."""

    name: str
    source: _Source
    case: Case

    @property
    def demand(self) -> tuple[str, str]:
        """What it has in common with points that differ in nothing but their policies."""
        return self.source.sha256, repr(settings.of_demand(self.case.under.settings))


def swept(
    traces: Sequence[Path],
    scenarios: Sequence[Path],
    under: Conditions,
    grid: Sequence[Mapping[str, Any]],
    into: Path | None,
    *,
    jobs: int,
    shown: bool,
) -> list[list[Result]]:
    """Give for each trace and scenario the results of all points, the best first.

    Raises ProfileError, before anything is replayed, for a setting that is not known or makes no sense.
    """
    sources = [_Source(path, results.sha256_of(files_of(path))) for path in traces]
    sources += [_Source(path, results.sha256_of([path]), script.document(path)) for path in scenarios]
    for source in sources:
        settings.check(grid[0], _moving(under.policies), scenario=source.mapping is not None)
    points = [[_point(source, under, chosen) for chosen in grid] for source in sources]
    with results.opened(into) as known:
        todo = [point for of_source in points for point in of_source if point.name not in known.by_point]
        batches = list(_batches(todo, jobs))
        with bar(f"replaying {len(todo)} points", len(todo), shown=shown) as tell:
            for number, scores in pool.results(replayed_together, batches, jobs=jobs, tell=_ignore):
                for point, of_point in zip(batches[number], scores, strict=True):
                    known.add(point.name, _result(point, report.values(of_point)))
                tell(len(batches[number]))
        found = [[known.by_point[point.name] for point in of_source] for of_source in points]
    return [sorted(of_source, key=_best_time) for of_source in found]


def _batches(points: Sequence[_Point], jobs: int) -> Iterator[tuple[_Point, ...]]:
    """Group points with the same demand, which is decoded once for all; in enough groups to keep every process busy."""
    most = max(1, min(MOST_TOGETHER, len(points) // (jobs * _BATCHES_EACH)))
    for _, alike in itertools.groupby(
        sorted(points, key=lambda point: point.demand), lambda point: point.demand
    ):
        while batch := tuple(itertools.islice(alike, most)):
            yield batch


def replayed_together(batch: Sequence[_Point], tell: Callable[[int], None]) -> list[dict[str, Score]]:
    """Replay points with the same demand side by side, beside one baseline."""
    first, under = batch[0].case, batch[0].case.under
    case = begun(first, Passed(), tell)
    policies = made([replay.BASELINE], {}, case)
    for number, point in enumerate(batch):
        moving = made(_moving(under.policies), point.case.under.settings, case)
        policies |= {f"{name} {number}": policy for name, policy in moving.items()}
    sight = dict.fromkeys(policies, Acuity(under.seed))
    scores = replay.scores(case.ticks, policies, case.prices, deadline_s=under.deadline_s, acuity=sight)
    refuse_empty(first.path, scores)
    return [
        {name: scores[name if name == replay.BASELINE else f"{name} {number}"] for name in under.policies}
        for number in range(len(batch))
    ]


def table(of_source: Sequence[Result]) -> Table:
    """Lay out one row a point, the best first: of one policy several figures, of several their times."""
    keys, policies = list(of_source[0]["settings"]), _moving(of_source[0]["policies"])
    figures = report.BRIEF if len(policies) == 1 else {report.TIME: report.BRIEF[report.TIME]}
    title = f"{Path(of_source[0]['source']).name}: {len(of_source)} points under {', '.join(policies)}"
    drawn = Table(title=title, title_justify="left", caption=report.CAPTION, caption_justify="left")
    for key in keys:
        drawn.add_column(key.replace(".", ".\n"), justify="right")
    for label, name in itertools.product(figures, policies):
        drawn.add_column(label if len(policies) == 1 else f"{name}: {label}", justify="right")
    for result in of_source:
        cells = (cell(result["policies"][name]) for cell in figures.values() for name in policies)
        drawn.add_row(*(f"{result['settings'][key]}" for key in keys), *cells)
    report.narrow(drawn.columns)
    return plain.whole(drawn)


def _ignore(count: int) -> None:
    """Count points, not bytes."""


def _point(source: _Source, under: Conditions, chosen: Mapping[str, Any]) -> _Point:
    """Give one point, all of whose settings make sense."""
    settings.of_cost(chosen)
    mapping = None
    if source.mapping is not None:
        mapping = settings.scripted(source.mapping, chosen, str(source.path))
    made = [_all_of(settings.changed(outsiders.load(name), chosen)) for name in _moving(under.policies)]
    under = replace(under, settings=chosen)
    machine = under.machine or _played_on(mapping)
    name = results.name_of(
        source=source.sha256,
        policies=made,
        machine=results.sha256_of([machine]) if machine else None,
        under=asdict(replace(under, machine=None)),
        version=__version__,
    )
    return _Point(name, source, Case(source.path, under, mapping))


def _played_on(mapping: Mapping[str, Any] | None) -> Path | None:
    named = (mapping or {}).get("played_on")
    return shipped.find("machines", named) if named else None


def _all_of(profile: Profile[Any, Limits]) -> dict[str, Any]:
    """Give all that a profile says, and what the model that it names holds, which is another once it is trained anew."""
    said = asdict(profile)
    if (
        profile.policy == profiles.LEARNED
        and (path := profiles.find_model(profile.parameters.model)).exists()
    ):
        said["model"] = results.sha256_of([path])
    return said


def _result(point: _Point, values: Mapping[str, Any]) -> Result:
    under = point.case.under
    return {
        "source": str(point.source.path),
        "sha256": point.source.sha256,
        "version": __version__,
        "machine": str(under.machine) if under.machine else None,
        "kernel": under.kernel,
        "deadline_s": under.deadline_s,
        "settings": under.settings,
        "policies": values,
    }


def _moving(policies: Iterable[str]) -> list[str]:
    return [name for name in policies if name != replay.BASELINE]


def _best_time(result: Result) -> float:
    found = (result["policies"][name]["modelled_time_to_hold"] for name in _moving(result["policies"]))
    return min((each for each in found if each is not None), default=math.inf)
