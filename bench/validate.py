# SPDX-License-Identifier: Apache-2.0

"""Hold the simulator's cost model against what others published.

``make validate`` prints a row for each case: published, simulated, and how far apart they are. The exit status is 1 where
one misses its target and nothing says why. A row is of one of four kinds, and only the last says anything about the model:

- regression: figures that went in come out again;
- calibrated: free figures were fitted until what was published came out;
- bound: what follows from figures that went in, by arithmetic that the model must respect; nobody measured it;
- validation: a measurement that the model was not given, nor fitted to.

What misses for a known want of figures says so, and what cannot be simulated is a row too, and says why.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py import machines
from numad_py.policies.hold import Hold
from numad_py.sim import cost, figures, load, replay, scenario, script
from numad_py.sim.baselines.kernel_balancing import KernelBalancing
from numad_py.sim.baselines.scanner import FAULT_NS, UNMAP_NS
from numad_py.sim.load import LINE_BYTES, Demand, from_everywhere, solve
from numad_py.sim.moving import carry_out
from tests.builders import move, process, regions

ROOT = Path(__file__).parents[1]
LOTS = 100_000.0  # lines outstanding: more than any limit leaves room for
GIB, GB = 1 << 30, 1e9

# 32 threads for 533 s (published); that they run on node 0, whose memory is full with as much as was demoted, and that
# what was promoted lies in CXL memory at first, is made up.
B_TREE = script.Scenario(
    about="a b-tree in fast and in CXL memory",
    published="642 s with kernel.numa_balancing=2, 533 s without, Linux 6.18",
    machine=script.Machine(
        cpus=(64, 64, 0),
        memory_mb=(56_720, 131_072, 131_072),
        file_mb=(0, 0, 0),
        distances=((10, 21, 30), (21, 10, 40), (30, 40, 10)),
    ),
    jobs=(
        script.ScriptedJob(
            "b-tree",
            (
                script.Group(
                    run=(script.Phase(0, (32, 0, 0)),),
                    memory=(script.Memory((56_218, 0, 53_320)),),
                ),
            ),
        ),
    ),
    length_s=533,
    marks=(script.Marked(script.Mark.FITTED, ("machine", "jobs"), "unknown"),),
)


@dataclass(frozen=True)
class Row:
    """One case; ``held`` is None where nothing could be simulated, and ``why`` says so."""

    test: str
    case: str
    published: str
    simulated: str = "-"
    error: str = "-"
    target: str = "-"
    kind: str = "-"
    held: bool | None = None
    why: str = ""

    @property
    def verdict(self):
        """A word for people."""
        return "not simulated" if self.held is None else "holds" if self.held else "MISSES"


def main():
    """Print all rows and give the exit status."""
    every = rows()
    table = Table(
        "", "case", "published", "simulated", "error", "target", "kind", "", box=box.SIMPLE, pad_edge=False
    )
    for row in every:
        table.add_row(
            row.test, row.case, row.published, row.simulated, row.error, row.target, row.kind, row.verdict
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    print(*(f"{row.test}: {row.case}: {row.why}" for row in every if row.why), sep="\n")
    return 1 if any(row.held is False and not row.why for row in every) else 0


def rows():
    """Give all rows, by the numbers of the tests."""
    paths = sorted((ROOT / "sim" / "machines").glob("*.yaml"))
    shipped = {path.stem.removeprefix("two-socket-xeon-"): machines.read(path) for path in paths}
    limited = {
        name: (each, cost.limits(each)) for name, each in shipped.items() if each.bandwidth.read_gb_per_s
    }
    swept = {name: each.loaded_latency[0] for name, each in shipped.items() if each.loaded_latency}
    return [
        *(curve_row("T1", name, sweep, [sweep]) for name, sweep in swept.items()),
        *(curve_row("T2", name, sweep, others(name, swept)) for name, sweep in swept.items()),
        *(idle_row(name, *each) for name, each in limited.items()),
        *(stream_row(name, *each) for name, each in limited.items()),
        *one_node_rows(limited["gold-6240"][1]),
        *interleaved_rows(limited),
        *first_touch_rows(cost.limits(shipped["two-socket-epyc-milan-nps4"])),
        *one_socket_rows(limited["e5-2680-v3"][1]),
        *mix_rows({name: on for name, (_, on) in limited.items() if on.mix}),
        *(move_row(*each) for each in ((4 << 10, 3.3), (64 << 10, 6.7), (2 << 20, 11.0))),
        balancing_row(paths[0].with_stem("cxl-beside-two-sockets")),
        *late_binding_rows(),
        *dataloader_rows(),
    ]


def others(name, by_name):
    """Give those of all other machines; the two of Skylake are one."""
    kin = ("gold-6140", "skylake")
    out = kin if name in kin else (name,)
    return [each for other, each in by_name.items() if other not in out]


def curve_row(test, name, sweep, fitted_to):
    """Hold a published sweep against a curve; given are the largest load and the latency at the least."""
    curve = load.fit([(each.gb_per_s, each.latency_ns) for each in fitted_to])
    most, idle_ns = max(sweep.gb_per_s), sweep.latency_ns[0]
    on = one_node(idle_ns, most, curve)
    found = [
        solve(on, Demand(np.array([[gb]]), np.ones((1, 1, 1)), waiting_share=0.0)).latency_ns[0, 0]
        for gb in sweep.gb_per_s
    ]
    error = np.abs(np.array(found) / sweep.latency_ns - 1)
    mean, worst = error.mean(), error.max()
    own = test == "T1"
    return Row(
        test,
        f"{name}: under load" + ("" if own else ", own left out"),
        f"{idle_ns:.0f} to {max(sweep.latency_ns):.0f} ns",
        f"{found[0]:.0f} to {max(found):.0f} ns",
        f"mean {mean:.1%}, max {worst:.1%}",
        "mean 2 %, max 12 %" if own else "mean 10 %",
        "regression" if own else "validation",
        bool(mean <= 0.02 and worst <= 0.12) if own else bool(mean <= 0.1),
    )


def one_node(idle_ns, most, curve):
    """Give a machine of one node."""
    return load.Machine(
        np.array([[idle_ns]]), np.array([most]), np.full((1, 1), np.inf), np.zeros(1, int), curve=curve
    )


def running(on, outstanding, share, *, waiting_share=1.0, write_share=0.0):
    """Let every node keep so many lines outstanding while it waits, on memory that lies so for each."""
    gb_per_s = np.diag(np.array(outstanding) * waiting_share * LINE_BYTES / np.diag(on.idle_ns))
    return solve(on, Demand(gb_per_s, from_everywhere(np.array(share, float)), waiting_share, write_share))


def alone(on, initiator, target, outstanding, waiting_share=1.0):
    """Let one node read one node's memory."""
    nodes = len(on.idle_ns)
    lines = np.where(np.arange(nodes) == initiator, outstanding, 0.0)
    found = running(on, lines, np.eye(nodes)[[target] * nodes], waiting_share=waiting_share)
    return found.latency_ns[initiator, target], found.gb_per_s[initiator, target]


def pairs(machine):
    """Give the pairs of nodes whose bandwidth was measured."""
    known = machine.bandwidth.read_gb_per_s
    return [(i, j, gb) for i, row in enumerate(known) for j, gb in enumerate(row) if gb]


def idle_row(name, machine, on):
    """Chase pointers between all pairs of nodes, a tenth of the time: a published figure has the chase's own load in it."""
    ratios = [alone(on, i, j, 1.0, 0.1)[0] / machine.idle_ns[i][j] for i, j, _ in pairs(machine)]
    return came_back("T3", f"{name}: chase, {len(ratios)} pairs", ratios, 0.01)


def stream_row(name, machine, on):
    """Stream between all pairs of nodes."""
    ratios = [alone(on, i, j, LOTS)[1] / gb for i, j, gb in pairs(machine)]
    return came_back("T3", f"{name}: stream, {len(ratios)} pairs", ratios, 0.01)


def came_back(test, case, ratios, target):
    """Say how far what came out is from what went in."""
    worst = max(abs(ratio - 1) for ratio in ratios)
    return Row(
        test, case, "as put in", f"{min(ratios):.3f} to {max(ratios):.3f} of it", f"{worst:.1%}", f"{target:.0%}", "regression", bool(worst <= target)
    )  # fmt: skip


def compared(test, case, published, simulated, unit, kind, *, within=None):
    """Hold one figure against another: within a share of it, or at most as much."""
    error = simulated / published - 1
    held = abs(error) <= within if within is not None else error <= 1e-6
    target = f"{within:.0%}" if within is not None else "at most"
    return Row(
        test,
        case,
        f"{published:.4g} {unit}",
        f"{simulated:.4g} {unit}",
        f"{error:+.1%}",
        target,
        kind,
        bool(held),
    )


def one_node_rows(on):
    """All threads of both sockets read the memory of node 0."""
    found = running(on, [LOTS] * 2, [[1, 0]] * 2).gb_per_s
    case = "gold-6240: all read node 0"
    yield compared("T4", case, 112.8, found.sum(), "GB/s", "bound", within=0.01)
    yield compared("T4", f"{case}, remote part", 34.4, found[1, 0], "GB/s", "bound")


def interleaved_rows(limited):
    """All threads read pages that are interleaved: the wires let through four times what one carries, or do not matter."""
    for name, published in (("gold-6240", 4 * 34.3), ("platinum-8360y", 4 * 55.7), ("e5-2680-v3", 122.1)):
        found = running(limited[name][1], [LOTS] * 2, [[0.5, 0.5]] * 2)
        case = f"{name}: all read interleaved pages"
        yield compared("T5", case, published, found.gb_per_s.sum(), "GB/s", "bound", within=0.01)


def one_socket_rows(on):
    """Copy on one socket and on both of two Xeon E5-2699 v3, modelled as E5-2680 v3, which has the same memory."""
    local = running(on, [LOTS, 0.0], [[1, 0]] * 2, write_share=0.5).gb_per_s.sum()
    both = running(on, [LOTS] * 2, [[0.5, 0.5]] * 2, write_share=0.5).gb_per_s.sum()
    twice = running(on, [2 * LOTS, 0.0], [[1, 0]] * 2, write_share=0.5).gb_per_s.sum()
    case = "e5-2699-v3, over 18 threads at home:"
    yield compared(
        "T7",
        f"{case} 36 on both sockets, interleaved",
        59.5 / 29.5,
        both / local,
        "x",
        "validation",
        within=0.1,
    )
    yield compared(
        "T7", f"{case} 36 on one socket", 28.5 / 29.5, twice / local, "x", "validation", within=0.1
    )


def mix_rows(by_name):
    """Write half of all bytes: with each machine's own table, and with the mean of the others'."""
    errors = []
    for name, on in by_name.items():
        published = dict(on.mix)[0.5]
        yield compared(
            "T8", f"{name}: 1:1 over reads", published, half_written(on), "x", "regression", within=0.01
        )
        means = np.mean([other.mix for other in others(name, by_name)], axis=0)
        errors.append(abs(half_written(replace(on, mix=tuple(map(tuple, means.tolist())))) / published - 1))
    mean, worst = np.mean(errors), max(errors)
    yield Row(
        "T8", f"{len(errors)} machines: 1:1 over reads, own left out", "0.73 to 0.89 x", "mean of the others",
        f"mean {mean:.1%}, max {worst:.1%}", "mean 10 %", "validation", bool(mean <= 0.1),
    )  # fmt: skip


def half_written(on):
    """Give what local traffic gets through with as many bytes written as read, over reads alone."""
    nodes = len(on.idle_ns)
    every = [
        running(on, [LOTS] * nodes, np.eye(nodes), write_share=share).gb_per_s.sum() for share in (0.0, 0.5)
    ]
    return every[1] / every[0]


def move_row(page_bytes, published):
    """Move 1 GiB of pages of one size."""
    held = process(regions=regions({0: GIB // page_bytes}, page_bytes=page_bytes))
    wish = move(held)
    prices = cost.Prices(np.ones((2, 2)), cost.move_prices("7.1"))
    outcome, _ = carry_out(wish, held.regions, {0: 0, 1: 1}, np.full(2, 2 * GIB), 10**12, prices)
    simulated = outcome.moved_bytes / GB / outcome.took_s
    return compared(
        "T9",
        f"moving pages of {page_bytes >> 10} KiB",
        published,
        simulated,
        "GB/s",
        "regression",
        within=0.01,
    )


def first_touch_rows(on):
    """Let all nodes read what one of them has touched, and then what each has: two EPYC 7543 in NPS4 mode."""
    own = np.eye(len(on.idle_ns))
    case, lots = "EPYC 7543 NPS4: first touch by", [LOTS] * len(own)
    one = running(on, lots, own[[0] * len(own)]).gb_per_s.sum()
    everyone = running(on, lots, own).gb_per_s.sum()
    yield replace(
        compared("T6", f"{case} one thread", 54.0, one, "GB/s", "validation", within=0.1),
        why="by its data sheet a node has two channels of DDR4-3200, 51.2 GB/s: the 54 measured were not all from one;"
        " the machine file has 42 to 51.2, a guess, and nothing was published that would be better",
    )
    yield replace(
        compared("T6", f"{case} all threads", 195.0, everyone, "GB/s", "validation", within=0.1),
        why="190 to 200 were measured, half of the 410 of 16 channels by their data sheet; which kernel that was, what"
        " it wrote, and whether its threads were on both sockets is not known: read by all eight nodes is simulated",
    )


def balancing_row(path):
    """Let a b-tree run beside CXL memory, under kernel balancing and without."""
    prices, policy, stalls = cost.read(path, "6.18"), KernelBalancing(), []
    scores = replay.scores(
        scenario.ticks(B_TREE),
        {"hold": Hold(), "kernel": policy},
        prices,
        watch=lambda _: stalls.extend(policy.stalled_s.values()),
    )
    ratio = scores["kernel"].modelled_s / scores["hold"].modelled_s
    faults = sum(stalls) / ((FAULT_NS + UNMAP_NS) * 1e-9)
    moved_s = (13.65e6 + 54.9 * GIB / 4096) * dict(cost.move_prices("6.18"))[4096] * 1e-9  # promoted, demoted
    return replace(
        compared(
            "T10", "kernel balancing of a b-tree on CXL memory", 1.205, ratio, "x", "validation", within=0.1
        ),
        why=f"{faults / 1e6:.0f} M hint faults are simulated, 86.5 M were counted; the model knows no tiering mode and no"
        f" demotion, whose {moved_s:.0f} CPU seconds of copying would be {moved_s / 32:.1f} of the 109 s. Unknown and"
        " made up: how much memory there was, where it and the 32 threads were, and what they touched; what a hint"
        " fault costs was not published (40 us would explain it all)",
    )


def held_at(name, **changes):
    """Play a scenario where nothing is moved, with other figures at some paths."""
    path = ROOT / "sim" / "scenarios" / f"{name}.yaml"
    mapping = script.document(path)
    for figure, value in changes.items():
        mapping = figures.with_value(mapping, figure, value, name)
    played = script.scripted(mapping, name)
    prices = scenario.prices(played, played.header(name))
    return replay.scores(scenario.ticks(played), {"hold": Hold()}, prices)["hold"]


def late_binding_rows():
    """Bind a worker after it has touched a part of its memory."""
    away = 1 - held_at("late-bound-worker").local_share_end
    yield compared(
        "T11", "late-bound worker: remote in the end", 22, 100 * away, "%", "calibrated", within=0.1
    )


def dataloader_rows():
    """Run one pipeline with more workers, as first touched and bound, over its 16 workers on one node."""

    def speed(workers, name, **changes):
        score = held_at(name, **changes)
        return workers * score.elapsed_s / score.job_s["/training.slice/loader.scope"]

    alone, groups = speed(16, "dataloader-16"), ("jobs.loader.groups.0", "jobs.loader.groups.1")
    spread = speed(90, "dataloader-90") / alone
    fewer = speed(48, "dataloader-90", **{f"{group}.processes": 24 for group in groups}) / alone
    bound = speed(90, "dataloader-90-bound") / alone
    case = "DataLoader, over 16 workers:"
    yield compared("T12", f"{case} 90 as first touched", 2.3, spread, "x", "calibrated", within=0.1)
    yield compared("T12", f"{case} 90 bound", 5.1, bound, "x", "calibrated", within=0.1)
    yield compared("T12", f"{case} 48 as first touched", 2.3, fewer, "x", "validation", within=0.1)
    yield Row(
        "T12",
        f"{case} 24 as first touched",
        "about 2.3 x",
        why="not simulated: 24 workers are at most 1.5 times 16 on the same machine, and nobody tells what the"
        " machine of 16 cores was that the published figures are over",
    )


if __name__ == "__main__":
    sys.exit(main())
