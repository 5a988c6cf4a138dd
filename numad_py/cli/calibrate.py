# SPDX-License-Identifier: Apache-2.0

"""``numad-py calibrate``: measure this machine and write its machine file."""

import importlib.util
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from numad_py import __version__, machines
from numad_py.act import price
from numad_py.calibrate import CannotCalibrate, company, events, site
from numad_py.calibrate.figures import QUICK, THOROUGH
from numad_py.cli import plain
from numad_py.cli.writable import refuse_unwritable
from numad_py.kernel import Malformed, cpu_model, hypervisor, pmu_events
from numad_py.kernel.hypervisor import Host
from numad_py.machines import Known, MachineFile

Each = TypeVar("Each")


def calibrate(
    *,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The machine file to write.")] = Path(
        "machine.yaml"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Fewer and shorter repetitions: less time, less sure."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure, for machines.")] = False,
) -> None:
    """Measure what memory costs on this machine.

    Latency, bandwidth and latency under load, from every node with CPUs to every node with memory, each pair alone and all nodes
    at once, and the price of moving pages: about a minute on two nodes. Only memory and threads of its own are touched.
    Let the machine do nothing else meanwhile. The file is what simulate --machine reads.
    """
    if os.path.lexists(output) and not overwrite:
        raise FileExistsError(f"{output} exists: name another file, or say --overwrite")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent} is no folder: make it first")
    refuse_unwritable(output)
    machine = _measured(quick=quick)
    machines.write(output, machine, overwrite=overwrite)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(asdict(machine))).decode())
        return
    for line in told(machine, output):
        plain.show(line)


def _measured(*, quick: bool) -> MachineFile:
    refuse_emulation(hypervisor.read())
    if not importlib.util.find_spec("numba"):
        raise CannotCalibrate(
            "calibrate needs numba, which is not installed: pip install 'numad-py[calibrate]'"
        )
    from numad_py.calibrate import loops, result, sweep  # noqa: PLC0415 - numba takes a second, for this verb alone

    host = hypervisor.read(loops.cpuid(hypervisor.CPUID_SIGNATURE)[4:])
    refuse_emulation(host)
    began = company.CpuUse.now()
    here = site.read()
    row = cpu_events()
    trial = events.Trial(row) if row else None
    around = trial.around if trial else sweep.no_counters
    found = sweep.run(sweep.Sweep(here, QUICK if quick else THOROUGH, around), _with_progress)
    moving = price.prices(here.topology)
    when = result.Circumstances(
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        by=f"numad-py {__version__} calibrate{' --quick' if quick else ''}",
        kernel=os.uname().release,
        host=host,
        others_share=company.others_share(began, company.CpuUse.now()),
        verified_events=row.name if row and trial and trial.verified else "",
    )
    return result.machine_file(
        found, here, when, moving.page_ns if moving else {}, moving.call_ns if moving else None
    )


def cpu_events() -> pmu_events.Row | None:
    """Give the events that should tell local from remote memory on this CPU, if any are known."""
    try:
        return pmu_events.row_of(cpu_model.read())
    except Malformed:
        return None


def refuse_emulation(host: Host) -> None:
    """Raise CannotCalibrate where times would be those of an emulator."""
    if host.emulator:
        raise CannotCalibrate(
            f"this machine is emulated ({host.emulator}): times here are the emulator's, so nothing was measured"
        )


def _with_progress(steps: Iterable[Each]) -> Iterator[Each]:
    """Show on a terminal what is being measured, and how much of it is done."""
    columns = (TextColumn("{task.description:<22}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    console = Console(stderr=True)
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        every = list(steps)
        task = bar.add_task("", total=len(every))
        for step in every:
            bar.update(task, description=str(step))
            yield step
            bar.advance(task)


def told(machine: MachineFile, output: Path) -> Iterator[Table | str]:
    """Give what people want to know: a matrix for each quantity, the prices, how sure it is."""
    yield from (_table(name, matrix, machine.measured.nodes) for name, matrix in _matrices(machine) if matrix)
    for loaded in machine.loaded_latency:
        points = zip(loaded.gb_per_s, loaded.latency_ns, strict=True)
        curve = ", ".join(f"{ns:.0f} ns at {load:.1f} GB/s" for load, ns in points)
        yield f"node {loaded.initiator} to {loaded.target} under load: {curve}"
    prices = ", ".join(f"{ns / 1e3:.2f} µs for {int(size) >> 10} KiB" for size, ns in machine.move_ns.items())
    yield f"moving a page: {prices or 'not measured, since that takes two nodes with CPUs'}"
    yield f"events: {_events(machine.measured.verified_events)}"
    yield f"sure: {_sure(machine)}"
    yield from (f"doubt: {doubt}" for doubt in machine.measured.doubts)
    yield f"{output} is written; GB = 10^9 bytes. Use it: numad-py simulate TRACE --machine {output}"


def _matrices(machine: MachineFile) -> Iterator[tuple[str, Known]]:
    yield "idle latency, ns", machine.idle_ns
    for where, bandwidth in (("", machine.bandwidth), (", all nodes at once", machine.bandwidth_together)):
        yield f"read{where}, GB/s", bandwidth.read_gb_per_s
        yield f"write{where}, GB/s", bandwidth.write_gb_per_s
        yield f"copy{where}, GB/s", bandwidth.copy_gb_per_s


def _table(name: str, matrix: Known, nodes: tuple[int, ...]) -> Table:
    table = Table(name, *map(str, nodes), box=box.SIMPLE, pad_edge=False)
    for node, row in zip(nodes, matrix, strict=True):
        table.add_row(f"from node {node} to", *("-" if cell is None else f"{cell:.1f}" for cell in row))
    return plain.whole(table)


def _events(name: str) -> str:
    if name:
        return f"those of {name} told local from remote memory for every pair: the daemon may decide on them"
    return "none told local from remote memory, so that the daemon decides on none"


def _sure(machine: MachineFile) -> str:
    """Say how far repetitions were from each other."""
    worst = {
        name: max(cell or 0.0 for row in matrix for cell in row)
        for name, matrix in machine.measured.spread_share.items()
    }
    return "the middle half of the repetitions spread by at most " + ", ".join(
        f"{share:.1%} ({name})" for name, share in worst.items()
    )
