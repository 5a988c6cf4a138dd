# SPDX-License-Identifier: Apache-2.0

"""``numad-py explain``: why the memory of a process is where it is."""

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from numad_py import profiles
from numad_py.cli.asking import NoAnswer, ask
from numad_py.cli.hardware import MB
from numad_py.daemon import explaining
from numad_py.daemon.explaining import Circumstances, Explained, HeldBack, Moved
from numad_py.daemon.log import printable, rounded
from numad_py.mendable import Mendable
from numad_py.model import Decision, Ending, Outcome, ProcessKey, Tick
from numad_py.policies.by_profile import ByProfile
from numad_py.trace import read

MINUTE_S: Final = 60
NOT_TRIED: Final = Outcome(Ending.DRY_RUN)


def explain(
    pid: Annotated[int, typer.Argument(metavar="PID", min=1, help="The process.", show_default=False)],
    *,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE", help="Ask a recording, as of its end, not the daemon."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for machines.")] = False,
) -> None:
    """Tell why the memory of a process is where it is.

    Users may ask about their own processes and jobs, root about all.
    """
    answer = msgspec.to_builtins(replayed(trace, pid)) if trace else ask("Explain", pid=pid)["explained"]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return
    try:
        told = msgspec.convert(answer, Explained)
    except msgspec.ValidationError as error:
        raise NoAnswer(f"the daemon is of another version: {error}; restart it, or ask with --json") from None
    for line in lines(told):
        print(printable(line))


def lines(told: Explained) -> Iterator[str]:
    """Tell it to people."""
    who = f", as {told.labelled_by} says" if told.labelled_by else ""
    yield f"process {told.pid} ({told.comm}) of the job {told.cgroup}, profile {told.profile}{who}"
    if told.replaced:
        yield f"another policy stands in for that of its profile: {told.replaced}"
    yield from (f"the daemon does not act: {by}: {why}" for by, why in told.closed_by.items())
    yield from _placed(told)
    yield ""
    yield _decision(told)
    for each in told.compared:
        limit = f"{each.limit} {rounded(each.limit_value)}"
        yield f"  {each.figure} {rounded(each.value)} is {_beside(each.value, each.limit_value)} {limit}"
    yield from (f"  {note}" for note in told.notes)
    yield from (f"held back: {_held(each, told)}" for each in told.held)
    yield ""
    yield "its last moves:" if told.lately else "nothing of it was moved lately"
    decisive = {each.figure for each in told.compared}
    yield from (f"  {_moved(each, told.now_s, decisive)}" for each in told.lately)


def _placed(told: Explained) -> Iterator[str]:
    """Say where its threads ran and where its memory is."""
    age_s = told.placement_age_s
    seen = (
        "its memory never"
        if age_s is None
        else f"its memory {_span(age_s)} before that"
        if age_s >= 1
        else ""
    )
    yield f"looked at {_span(told.now_s - told.looked_s)} ago{', ' if seen else ''}{seen}"
    yield ""
    yield f"{'node':>4}  {'CPU s':>8}  {'memory MB':>10}  {'of it movable':>13}"
    columns = (told.nodes, told.cpu_s, told.resident_bytes, told.movable_bytes)
    for node, cpu_s, resident, movable in zip(*columns, strict=True):
        outside = "" if node in told.nodes_allowed else "  outside its cpuset"
        yield f"{node:>4}  {cpu_s:>8.2f}  {resident / MB:>10.1f}  {movable / MB:>13.1f}{outside}"


def _decision(told: Explained) -> str:
    to = _nodes(told.targets)
    looks = "1 more look says" if told.more_looks == 1 else f"{told.more_looks} more looks say"
    within = _span(told.more_looks * told.period_s)
    sentences: dict[str, str] = {
        Decision.MOVE: f"what it has elsewhere should come to {to} now",
        Decision.WAIT: f"what it has elsewhere should come to {to} once {looks} the same, in {within}",
        Decision.STAY: f"it is well where it is: it belongs on {to}"
        if told.compared
        else "its policy leaves everything where it is",
        Decision.NO_EVIDENCE: "it stays where it is: it ran too little, or on too many nodes, to tell where it belongs",
    }
    return sentences.get(told.decision, "its policy tells no more than the figures of its moves")


def _beside(value: float, limit: float) -> str:
    return "over" if value > limit else "under" if value < limit else "exactly"


def _held(held: HeldBack, told: Explained) -> str:
    """Say what was held back and why, and for how long yet, where that is known."""
    said = {"wait_s", *(each.figure for each in told.compared)}
    figures = {name: value for name, value in held.figures.items() if name not in said}
    wait_s = held.figures.get("wait_s")
    yet = "" if wait_s is None else f", for {_span(max(told.looked_s + wait_s - told.now_s, 0))} yet"
    what = f"{held.bytes / MB:.1f} MB" if held.bytes else "its threads"
    return f"{what}: {held.why}{yet}{_in_brackets(figures)}"


def _moved(move: Moved, now_s: float, decisive: Collection[str]) -> str:
    """Say what a move was, by the figures that are decisive, else by all, and how it ended."""
    figures = {name: value for name, value in move.figures.items() if name in decisive} or move.figures
    when = f"{_span(now_s - move.time_s)} ago{f', {move.times} times in a row' if move.times > 1 else ''}"
    to = f"to {_nodes(move.targets)}, {move.reason}"
    of_job = " that its job shares" if move.what == "shared pages" else ""
    wanted = "its threads" if move.what == "threads" else f"{move.wanted_bytes / MB:.1f} MB{of_job}"
    if move.ending == Ending.DRY_RUN:
        return f"{when}: {wanted} would have moved {to}{_in_brackets(figures)}"
    came = (
        f"{move.moved_threads} threads"
        if move.what == "threads"
        else f"{move.moved_bytes / MB:.1f} of {wanted}"
    )
    failed = "".join(f", {name}: {count}" for name, count in move.failed.items())
    detail = f" ({move.detail})" if move.detail else ""
    return f"{when}: {came} {to}{_in_brackets(figures)}: {move.ending}{detail}{failed}"


def _in_brackets(figures: Mapping[str, float]) -> str:
    told = ", ".join(_figure(name, value) for name, value in figures.items())
    return f" ({told})" if told else ""


def _figure(name: str, value: float) -> str:
    """Give a figure, in ms where it is in ns."""
    if name.endswith(("_ns", "_ns_per_s")):
        name, value = name.replace("_ns", "_ms"), value / 1e6
    return f"{name} {rounded(value)}"


def _nodes(ids: list[int]) -> str:
    return f"node{'s'[: len(ids) > 1]} {', '.join(map(str, ids))}" if ids else ""


def _span(time_s: float) -> str:
    return f"{time_s:.1f} s" if time_s < MINUTE_S else f"{time_s / MINUTE_S:.0f} min"


def replayed(path: Path, pid: int) -> Explained:
    """Have the profiles of a recording decide anew over it; give what they say of a process when it was seen last."""
    names = {job.profile for tick in read(path)[1] for job in tick.snapshot.jobs}
    policy = ByProfile({name: profiles.build(profiles.load(name)) for name in sorted(names)})
    told, before_s = None, math.inf
    lately: Mapping[ProcessKey, tuple[Moved, ...]] = {}
    for tick in read(path)[1]:
        _decide(policy, tick)
        lately, now_s = explaining.after(lately, tick), tick.snapshot.time_s
        if found := explaining.find(tick.snapshot, pid):
            key = found[1].key
            around = Circumstances(now_s, max(now_s - before_s, 0.0), lately.get(key, ()))
            told = explaining.explained(tick.snapshot, *found, policy.explain(key), around)
        before_s = now_s
    if told is None:
        raise Mendable(f"{path}: no job in it has a process {pid}")
    return told


def _decide(policy: ByProfile, tick: Tick) -> None:
    """Let a policy decide, and see the outcomes that were recorded of the processes that it would move."""
    pages = {move.process: outcome for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True)}
    plan = policy.decide(tick.snapshot)
    outcomes = tuple(pages.get(move.process, NOT_TRIED) for move in plan.moves)
    policy.review(Tick(tick.snapshot, plan, outcomes, (NOT_TRIED,) * len(plan.task_moves)))
