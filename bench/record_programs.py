# SPDX-License-Identifier: Apache-2.0

"""Record real programs whose memory is on node 0 and who then run on node 1, or on both: the traces of sim/traces.

    .venv/bin/python -m tests.vm.guest --guest two-watched-nodes --limit 1800 --bench bench/record_programs.py

The programs are those of sim/traces/programs; the Python that runs them is one of their own, made outside the guest by

    .venv/bin/uv venv --python 3.11 build/programs
    .venv/bin/uv pip install --python build/programs -r sim/traces/programs/requirements.txt

Each is started on node 0, watched as soon as it has imported what it needs, and let go where the table below says
when it has worked on its data for a while. Nothing is moved. The traces are anonymised and left in build/guest.
"""

import argparse
import contextlib
import os
import secrets
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py import profiles, trace
from numad_py.daemon import log
from numad_py.daemon.config import Config
from numad_py.daemon.service import Service
from numad_py.kernel import cgroup
from numad_py.policies.hold import Hold
from numad_py.sense import sensor
from tests.vm.job_memory import cpus_of

ROOT = Path(__file__).parents[1]
CACHED = Path(f"/mnt{ROOT}")  # as tests/vm/inside.sh mounts the host: there, packages are read once
PYTHON = CACHED / "build/programs/bin/python"
AT_HOME_S = 20.0
BUDGET_CORE_SHARE = 0.2  # everything is some twenty times slower here, looking too
LOCKED_SHARE = 20 * sensor.LOCKED_SHARE

# The nodes that each runs on at last.
PROGRAMS = {
    "numpy_products": (1,),
    "pandas_orders": (1,),
    "scipy_pagerank": (0, 1),
    "sklearn_forest": (0, 1),
    "sqlite_queries": (1,),
    "torch_dataloader": (0, 1),
}


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", action="append", choices=PROGRAMS, help="this one; may be given again")
    parser.add_argument("--seconds", type=float, default=100.0, help="after it was let go (%(default)s)")
    parser.add_argument("--period", type=float, default=2.0, help="between looks (%(default)s)")
    return parser.parse_args()


@contextlib.contextmanager
def started(name, node):
    """Start a program in a cgroup of its own, on one node; all of it is gone at the end."""
    group = cgroup.read_mount_point() / name
    group.mkdir()
    enter = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', group]
    script = CACHED / "sim/traces/programs" / f"{name}.py"
    words = [*enter, "taskset", "--cpu-list", listed([node]), PYTHON, script]
    program = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        yield group, program
    finally:
        (group / "cgroup.kill").write_text("1")
        program.communicate()
        while "populated 1" in (group / "cgroup.events").read_text():
            time.sleep(0.1)
        group.rmdir()


def listed(nodes):
    """Give the CPUs of nodes as taskset takes them."""
    return ",".join(str(cpu) for node in nodes for cpu in sorted(cpus_of(node)))


def let_go(group, nodes):
    """Let all threads of a job run on nodes, as a scheduler of jobs or a user does."""
    for pid in cgroup.procs(group):
        words = ["taskset", "--all-tasks", "--cpu-list", "--pid", listed(nodes), str(pid)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def await_line(program, said, began_s):
    """Wait until the program says so."""
    line = program.stdout.readline().strip()
    if line != said:
        raise SystemExit(f"{program.args[-1]}: {line!r} instead of {said!r}, status {program.poll()}")
    print(f"{said} after {time.monotonic() - began_s:.0f} s", flush=True)


@contextlib.contextmanager
def recording(out, period_s):
    """Record labelled jobs, anonymised, from the first look that has one until the end of the block."""
    service = Service(Config(period_s=period_s, budget_core_share=BUDGET_CORE_SHARE), policy=Hold())
    hidden = trace.Anonymiser(secrets.token_bytes(32), frozenset(profiles.names()))

    def write():
        with trace.Writer(out, hidden.header(service.header())) as writer:
            for tick in service.ticks():
                if tick.snapshot.jobs:
                    writer.write(hidden.tick(tick))

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            yield
        finally:
            service.clock.stop()
            writing.result()


def record(name, out, said):
    """Record one program."""
    began_s = time.monotonic()
    with started(name, node=0) as (group, program):
        await_line(program, "imported", began_s)
        os.setxattr(group, cgroup.LABEL, b"hold")
        with recording(out, said.period):
            await_line(program, "built", began_s)
            time.sleep(AT_HOME_S)
            let_go(group, PROGRAMS[name])
            time.sleep(said.seconds)


def told(path):
    """Say what is in a trace."""
    ticks = list(trace.read(path)[1])
    looks = enumerate(tick.snapshot.jobs for tick in ticks)
    processes = [(number, one) for number, jobs in looks for job in jobs for one in job.processes]
    read = sum(one.placement_age_s == 0 for _, one in processes)
    seen = [f"{one.accesses.source.name} at {number}" for number, one in processes if one.accesses]
    return (
        f"{path.name}: {path.stat().st_size} bytes, {len(ticks)} looks, {read} times of {len(processes)} where "
        f"the memory of a process is, accesses: {', '.join(seen) or 'none'}"
    )


def main():
    """Record them one after another."""
    said = arguments()
    log.configure(foreground=True)
    sensor.LOCKED_SHARE = LOCKED_SHARE
    for name in said.program or PROGRAMS:
        print(f"\n{name}", flush=True)
        out = Path(os.environ["NUMAD_VM_FOLDER"]) / f"{name.replace('_', '-')}.jsonl.zst"
        out.unlink(missing_ok=True)
        record(name, out, said)
        print(told(out), flush=True)


if __name__ == "__main__":
    main()
