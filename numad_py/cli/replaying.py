# SPDX-License-Identifier: Apache-2.0

"""Replay traces under policies, in as many processes as are wanted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from numad_py import trace
from numad_py.cli import outsiders, settings
from numad_py.cli.progress import bar
from numad_py.model import Tick
from numad_py.policies.hold import Hold
from numad_py.profile import ProfileError
from numad_py.roles import Policy
from numad_py.sim import cost, effects, pool, replay, scenario, script
from numad_py.sim.baselines import BASELINES, Again
from numad_py.sim.baselines.baseline import Baseline
from numad_py.sim.history import Historian, History
from numad_py.sim.score import Score
from numad_py.sim.sight import Acuity

# Each process that replays some of the policies decodes the trace again, and begins 0.4 s later: on two cores three
# policies take a third less time than side by side on one, where that is some seconds.
WORTH_SPLITTING_BYTES: Final = 4 << 20

_PERFECT: Final = (
    "\0"  # begins the name of a policy's twin that sees the machine as it is; no file has such a name
)


@dataclass(frozen=True)
class Conditions:
    """What everything is replayed with; ``settings`` are by the keys of ``--set``, ``seed`` is of what policies see."""

    policies: tuple[str, ...]
    machine: Path | None = None
    kernel: str = ""
    deadline_s: float | None = None  # None is the daemon's
    lenient: bool = False
    history: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = Acuity.seed


@dataclass(frozen=True)
class Case:
    """What one process replays: a trace, or a scenario's mapping, under some policies."""

    path: Path
    under: Conditions
    mapping: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Begun:
    """A case that is read: its ticks, what they cost there, and what reads them once more from the begin."""

    header: trace.Header
    ticks: Iterable[Tick]
    prices: cost.Prices
    again: Again


@dataclass(frozen=True)
class Replayed:
    """One trace's or scenario's header, its scores by policy, and where a report is wanted its histories.

    ``verdicts`` and ``notes`` are sentences about a scenario, ``ranges`` the least and the most that modelled
    time / hold comes to while its assumptions change.
    """

    path: Path
    header: trace.Header
    scores: dict[str, Score]
    passed: trace.Passed
    histories: dict[str, History]
    verdicts: tuple[effects.Verdict, ...] = ()
    notes: tuple[str, ...] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What was replayed, in a line."""
        score, nodes = next(iter(self.scores.values())), len(self.header.topology.nodes)
        words = [f"{self.path.name}: {nodes} nodes", f"{score.ticks:,} ticks", f"{score.elapsed_s:,.0f} s"]
        return ", ".join([*words, *(each.word for each in self.verdicts)])


def begun(case: Case, passed: trace.Passed, tell: Callable[[int], None]) -> Begun:
    """Give a case's header, its ticks, and what they cost there; it is told how many bytes more of a trace were read."""
    under = case.under
    if case.mapping is None:
        header, ticks = trace.read(case.path, lenient=under.lenient, on_damage=passed, on_bytes=tell)
        prices = cost.prices_for(header, under.machine, under.kernel)
        return Begun(
            header,
            ticks,
            settings.priced(prices, under.settings),
            lambda: trace.read(case.path, lenient=under.lenient)[1],
        )
    written = script.scripted(case.mapping, str(case.path))
    header = written.header(case.path.stem)
    prices = settings.priced(scenario.prices(written, header, under.machine, under.kernel), under.settings)
    return Begun(header, scenario.ticks(written), prices, lambda: scenario.ticks(written))


def replayed(case: Case, tell: Callable[[int], None]) -> Replayed:
    """Replay one case in this process."""
    passed = trace.Passed()
    case_begun = begun(case, passed, tell)
    policies = made(case.under.policies, case.under.settings, case_begun)
    twins = {
        _PERFECT + name: policy
        for name, policy in made(_sensing(policies), case.under.settings, case_begun).items()
    }
    historians = {name: Historian(case_begun.prices) for name in policies if case.under.history}

    def watch(turn: Mapping[str, Tick]) -> None:
        for name, historian in historians.items():
            historian.add(turn[name])

    found = replay.scores(
        case_begun.ticks,
        policies | twins,
        case_begun.prices,
        deadline_s=case.under.deadline_s,
        acuity=dict.fromkeys(policies, Acuity(case.under.seed)),
        watch=watch,
    )
    scores = {name: _beside(found[name], found.get(_PERFECT + name)) for name in policies}
    histories = {name: historian.history for name, historian in historians.items()}
    return Replayed(case.path, case_begun.header, scores, passed, histories)


def _sensing(policies: Mapping[str, Policy]) -> list[str]:
    """Name the policies that would see the machine through a sensor, and not as it is."""
    return [name for name, policy in policies.items() if not isinstance(policy, Baseline | Hold)]


def _beside(score: Score, perfect: Score | None) -> Score:
    return replace(score, perfect_s=(perfect or score).modelled_s)


def refuse_empty(path: Path, scores: Mapping[str, Score]) -> None:
    """Raise TraceError for a trace of which nothing could be replayed."""
    if not scores[replay.BASELINE].ticks:
        raise trace.TraceError(path, 1, "there is no tick that can be read behind the header", "record again")


def attempted(case: Case, tell: Callable[[int], None]) -> Replayed | ProfileError:
    """Replay one case in this process, or give what makes no sense in it."""
    try:
        return replayed(case, tell)
    except ProfileError as error:
        return error


def made(names: Iterable[str], changes: Mapping[str, Any], on: Begun) -> dict[str, Policy]:
    """Make the policies anew, for each trace has a memory of its own."""
    return {name: _made(name, changes, on) for name in names}


def _made(name: str, changes: Mapping[str, Any], on: Begun) -> Policy:
    if name == replay.BASELINE:
        return Hold()
    if name in BASELINES:
        return BASELINES[name](on.prices, on.again)
    return outsiders.build(settings.changed(outsiders.load(name), changes), on.header)


def traces(paths: Sequence[Path], under: Conditions, *, jobs: int, shown: bool) -> list[Replayed]:
    """Replay traces in so many processes: each of them by itself, or a large one's policies in groups."""
    splits = [_split(path, under, jobs // len(paths)) for path in paths]
    cases = [case for split in splits for case in split]
    what = f"replaying {paths[0].name if len(paths) == 1 else f'{len(paths)} traces'}"
    with bar(what, sum(size_bytes(case.path) for case in cases), shown=shown) as tell:
        ended = dict(pool.results(replayed, cases, jobs=jobs, tell=tell))
    parts = (ended[number] for number in range(len(cases)))
    return [_together([next(parts) for _ in split], under) for split in splits]


def size_bytes(path: Path) -> int:
    """Say how large a trace is; raises OSError where there is none."""
    return sum(file.stat().st_size for file in trace.files_of(path))


def _split(path: Path, under: Conditions, most: int) -> list[Case]:
    """Deal the policies of a large trace out; the baseline asks the oracle, which costs as much as a policy."""
    groups = max(min(most, len(under.policies)), 1) if size_bytes(path) >= WORTH_SPLITTING_BYTES else 1
    baseline, *others = under.policies
    hands = [[baseline], *([] for _ in range(groups - 1))]
    for name in others:
        min(hands, key=lambda hand: len(hand) + (hand is hands[0])).append(name)
    return [Case(path, replace(under, policies=tuple(hand))) for hand in hands]


def _together(parts: Sequence[Replayed], under: Conditions) -> Replayed:
    """Put the policies of one trace side by side again; only the baseline's group has asked the oracle."""
    scores = {name: score for part in parts for name, score in part.scores.items()}
    histories = {name: history for part in parts for name, history in part.histories.items()}
    asked = scores[replay.BASELINE]
    return replace(
        parts[0],
        scores={
            name: replace(scores[name], least_s=asked.least_s, least_anywhere_s=asked.least_anywhere_s)
            for name in under.policies
        },
        histories={name: histories[name] for name in under.policies if under.history},
    )
