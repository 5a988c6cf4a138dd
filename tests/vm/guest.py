# SPDX-License-Identifier: Apache-2.0

"""Boots guests with several nodes and runs the tests of this folder in them: ``make vm``."""

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from tests.vm import access_counts, packages, systemd_guest, vng
from tests.vm.access_counts import AccessCounts, PerSecond
from tests.vm.bench import BUILD, FAILED, ROOT, Bench
from tests.vm.guests import BY_NAME, GUESTS, Guest

_GOES_OFF_S = 15  # sooner than the kernel calls a CPU that goes round for ever a soft lockup
_TRIED_AGAIN = 5  # tests of a guest; what fails more is no accident of its host


@dataclass(frozen=True)
class Run:
    """What came of one guest. ``trouble`` is empty where all went well."""

    guest: Guest
    kernel: str
    boot_s: float | None
    wall_s: float
    counts: dict[str, int]
    trouble: str

    def line(self) -> str:
        """Give the line of the closing table."""
        boot = "did not come up" if self.boot_s is None else f"up in {self.boot_s:.1f} s"
        counts = ", ".join(f"{number} {word}" for word, number in self.counts.items()) or "no test"
        return (
            f"{self.guest.name:<17} {self.kernel:<22} {len(self.guest.nodes)} nodes  {boot}, "
            f"{counts}, {self.wall_s:.0f} s in all: {self.trouble or 'well'}"
        )


def _kind(guest: Guest) -> ModuleType:
    """Give the module that knows how this guest is booted."""
    return systemd_guest if guest.systemd else vng


def boot(guest: Guest, kernel: Path, command: list[str], limit_s: float) -> Run:
    """Run one command in one guest, its output on ours as it comes."""
    bench, kind = Bench(guest), _kind(guest)
    kind.prepare(bench, command)
    turn = PerSecond(guest).turn if guest.counted else lambda: None
    words = kind.words(bench, kernel)
    began_s = time.monotonic()
    with bench.console.open("wb") as console:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,  # one group, so that nothing of it outlives us
        )
        try:
            in_time = _follow(bench, process, began_s + limit_s, turn)
        finally:
            _kill_group(process)
    booted = bench.read("booted")
    return Run(
        guest,
        kernel.name.removeprefix("vmlinuz-"),
        boot_s=float(booted) if booted else None,
        wall_s=time.monotonic() - began_s,
        counts=bench.counts(),
        trouble=bench.trouble() if in_time else f"not done in {limit_s:.0f} s, killed",
    )


def _follow(
    bench: Bench, process: "subprocess.Popen[bytes]", until_s: float, turn: Callable[[], None]
) -> bool:
    """Copy the guest's output to ours, with a ``turn`` now and then; return whether it came to its end.

    A guest that has left its status is done, also where it then does not go off.
    """
    done = False
    with bench.output.open("rb") as lines:
        while (running := process.poll() is None) and time.monotonic() < until_s:
            if done := bench.read("status") is not None:
                until_s = min(until_s, time.monotonic() + _GOES_OFF_S)
            _copy(lines.read)
            turn()
            time.sleep(0.2)
        _copy(lines.read)
    if running and done:
        print(f"{bench.guest.name} is done and did not go off: it was ended", flush=True)
    return done or not running


def _copy(read: Callable[[], bytes]) -> None:
    sys.stdout.write(read().decode(errors="replace"))
    sys.stdout.flush()


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _judge(run: Run, *, may_be_empty: bool) -> Run:
    """Count a skip as a failure; let a guest go empty where tests were chosen by hand."""
    trouble = run.trouble
    if trouble == "no test ran" and may_be_empty:
        trouble = ""
    if not trouble and run.counts.get("skipped"):
        trouble = "a test skipped itself, and in a guest every test must run"
    return Run(run.guest, run.kernel, run.boot_s, run.wall_s, run.counts, trouble)


def _show(run: Run) -> None:
    """Show what was counted, and the console where the output does not explain the trouble."""
    if run.guest.counted and run.boot_s is not None:
        print(f"\n{run.guest.name}, since power-on: {AccessCounts.read(run.guest)}")
    if run.trouble and not run.trouble.startswith("the command"):
        print(f"\n{run.guest.name}: {run.trouble}.")
        Bench(run.guest).show_console()


def _compile() -> None:
    """Compile ahead, what can be: the guest cannot keep what it compiles."""
    folders = [sysconfig.get_path("purelib"), *(str(ROOT / name) for name in ("numad_py", "tests"))]
    subprocess.run([sys.executable, "-m", "compileall", "-qq", *folders], check=False)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.vm.guest", description=__doc__)
    parser.add_argument(
        "--guest", choices=sorted(BY_NAME), action="append", help="this guest only; may be given again"
    )
    parser.add_argument(
        "--limit", type=float, default=2400, metavar="SECONDS", help="per guest (%(default)s)"
    )
    parser.add_argument(
        "--timed", action="store_true", help="hold times to what is promised: on a quiet host"
    )
    parser.add_argument(
        "--count-accesses", action="store_true", help="count the accesses of user space by node, in any guest"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--shell", action="store_true", help="a shell in the guest, no tests")
    what.add_argument("--bench", nargs=argparse.REMAINDER, metavar="FILE", help="run FILE and its arguments")
    what.add_argument("-k", metavar="EXPR", help="as pytest's -k")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    return parser.parse_args()


def _pytest(guest: Guest, arguments: argparse.Namespace, tests: tuple[str, ...] = ()) -> list[str]:
    *command, folder = _kind(guest).PYTEST
    chosen = [*(["-k", arguments.k] if arguments.k else []), *arguments.pytest]
    usual = ["-o", "addopts=--import-mode=importlib --strict-config --strict-markers"]  # for no plugin
    plain = ["-p", "no:cacheprovider", "--color=no", "-v", "-rfEs", "--durations=5"]
    return [*command, *(tests or [folder]), *usual, *plain, *chosen]


def _try(guest: Guest, kernel: Path, arguments: argparse.Namespace) -> Run:
    """Run a guest's tests; those that failed, where they are few, are tried once more in a fresh guest, and told of.

    A host that gives its guest no CPU for seconds fails what waits for seconds. What fails twice is a failure.
    """
    run = boot(guest, kernel, _pytest(guest, arguments), arguments.limit)
    failed = Bench(guest).failed()
    if run.trouble != FAILED or not 0 < len(failed) <= _TRIED_AGAIN:
        return run
    print(f"\n{guest.name}: once more, in a fresh guest:", *failed, sep="\n  ", flush=True)
    again = boot(guest, kernel, _pytest(guest, arguments, failed), arguments.limit)
    counts = Counter(again.counts) + Counter(
        {word: run.counts.get(word, 0) for word in ("passed", "skipped")}
    )
    counts["at the second try"] = again.counts.get("passed", 0)
    return replace(again, counts=counts, wall_s=run.wall_s + again.wall_s)


def _guest(name: str, arguments: argparse.Namespace) -> Guest:
    guest = BY_NAME[name]
    return replace(guest, counted=guest.counted or arguments.count_accesses)


def _run_all(arguments: argparse.Namespace) -> list[Run]:
    chosen = bool(arguments.k or arguments.pytest)
    runs = []
    for name in arguments.guest or [guest.name for guest in GUESTS]:
        guest = _guest(name, arguments)
        kernel = _kernel(guest)
        with _alone(guest.name):
            print(f"\nbooting {guest.name}: {len(guest.nodes)} nodes, Linux {kernel.parts[-3]}", flush=True)
            run = _try(guest, kernel, arguments)
            runs.append(_judge(run, may_be_empty=chosen))
            _show(runs[-1])
    return runs


def _bench(arguments: argparse.Namespace, guest: Guest) -> list[Run]:
    kernel = _kernel(guest)
    with _alone(guest.name):
        run = boot(guest, kernel, [sys.executable, *arguments.bench], arguments.limit)
        _show(run)
    return [run]


def _shell(guest: Guest) -> int:
    kernel, bench = _kernel(guest), Bench(guest)
    with _alone(guest.name):
        bench.path.mkdir(parents=True, exist_ok=True)  # for the counts of accesses
        return subprocess.run(_kind(guest).shell(bench, kernel), cwd=ROOT, check=False).returncode


def _kernel(guest: Guest) -> Path:
    with _alone("kernels"):
        return packages.ensure_kernel(guest.kernel, BUILD / "kernels")


@contextlib.contextmanager
def _alone(what: str) -> Iterator[None]:
    """Wait until no other run of this checkout uses the folder of that guest, or of kernels."""
    (BUILD / "kernels").mkdir(parents=True, exist_ok=True)
    with (BUILD / f"{what}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run to leave {what}", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Do what the command line asks; 0 is success."""
    arguments = _arguments()
    if arguments.timed:
        os.environ["NUMAD_VM_TIMED"] = "1"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it too ends the guest
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted; the guest was ended", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace) -> int:
    with _alone("kernels"):
        packages.ensure_system_packages()
        access_counts.build()
        _compile()
    guest = _guest((arguments.guest or ["two-nodes"])[0], arguments)
    if arguments.shell:
        return _shell(guest)
    runs = _bench(arguments, guest) if arguments.bench else _run_all(arguments)
    print("\n" + "\n".join(run.line() for run in runs))
    ran_none = not arguments.bench and not any(run.counts for run in runs)
    return int(ran_none or any(run.trouble for run in runs))


if __name__ == "__main__":
    sys.exit(main())
