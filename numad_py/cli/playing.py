# SPDX-License-Identifier: Apache-2.0

"""Play scenarios as they are written, and with each of their assumptions changed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from numad_py import machines
from numad_py.cli.progress import bar
from numad_py.cli.replaying import Case, Conditions, Replayed, attempted
from numad_py.profile import ProfileError
from numad_py.sim import effects, pool, report, script, shipped
from numad_py.sim.fitted import Variant, variants

Play = tuple[Path, Variant]
CameTo = Replayed | ProfileError


def played(paths: Sequence[Path], under: Conditions, *, jobs: int, shown: bool) -> list[Replayed]:
    """Play each scenario, and its variants for the ranges of its figures.

    Raises ProfileError where a scenario makes no sense; a variant that makes none is noted.
    """
    plays = [_plays(path) for path in paths]
    cases = [_case(play, under) for scenario in plays for play in scenario]
    with bar(f"playing {len(cases)} variants of scenarios", len(cases), shown=shown) as tell:
        ended: dict[int, CameTo] = {}
        for number, came_to in pool.results(attempted, cases, jobs=jobs, tell=tell):
            ended[number] = came_to
            tell(1)
    parts = (ended[number] for number in range(len(cases)))
    return [_noted([(variant, next(parts)) for _, variant in scenario], under) for scenario in plays]


def _plays(path: Path) -> list[Play]:
    mapping = script.document(path)
    return [(path, each) for each in (Variant("", 1.0, mapping), *variants(mapping, str(path)))]


def _case(play: Play, under: Conditions) -> Case:
    path, variant = play
    return Case(path, replace(under, history=under.history and not variant.assumption), variant.mapping)


def _noted(plays: Sequence[tuple[Variant, CameTo]], under: Conditions) -> Replayed:
    """Add to what a scenario came to how far that depends on its assumptions, and what was published."""
    (variant, written), *changed = plays
    if isinstance(written, ProfileError):
        raise written
    scripted = script.scripted(variant.mapping, str(written.path))
    verdicts = effects.verdicts(scripted.published_effects, report.values(written.scores))
    notes = [] if under.machine else list(_played_on(scripted.played_on))
    notes += [
        f"not played: {variant.assumption}, {variant.factor - 1:+.0%}: {each}"
        for variant, each in changed
        if isinstance(each, ProfileError)
    ]
    runs = [written.scores, *(each.scores for _, each in changed if isinstance(each, Replayed))]
    ranges = report.ranges(runs) if changed else {}
    return replace(written, verdicts=verdicts, notes=tuple(notes), ranges=ranges)


def _played_on(machine: str) -> Iterator[str]:
    """Say which machine's costs a scenario has by itself, and what nobody knows of it."""
    if machine:
        ranges = machines.read(shipped.find("machines", machine)).ranges
        middles = f"; of what nobody has published, {', '.join(ranges)}, the middle is used" if ranges else ""
        yield f"played on {machine}{middles}"
