# SPDX-License-Identifier: Apache-2.0

"""Boots guests with several nodes and runs the tests of this folder in them: ``make vm``."""

import argparse
import contextlib
import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.vm import access_counts, packages
from tests.vm.access_counts import AccessCounts, PerSecond
from tests.vm.guests import BY_NAME, GUESTS, Guest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "guest"

# What a kernel says when it is no longer well. Its "report a BUG" hints have no colon. The guest's init warns too,
# of programs that a small host does not have.
_ALARM = re.compile(
    r"(?!.*virtme-ng-init).*(Kernel panic|\bBUG:|\bWARNING:|\bOops:|general protection fault)"
)
_CONSOLE_SHOWN_LINES = 30
_NO_TESTS_RAN = 5  # pytest's exit status


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


@dataclass(frozen=True)
class Bench:
    """The folder that one guest shares with the host, and what both write there."""

    guest: Guest

    @property
    def path(self) -> Path:
        """The folder; it has the same path on both sides."""
        return BUILD / self.guest.name

    @property
    def output(self) -> Path:
        """What the command printed."""
        return self.path / "output.log"

    @property
    def console(self) -> Path:
        """What the kernel printed."""
        return self.path / "console.log"

    def prepare(self, command: list[str]) -> None:
        """Lay out what inside.sh reads; what an earlier run left is gone."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in ("booted", "status"):
            (self.path / name).unlink(missing_ok=True)
        self.output.write_bytes(b"")
        (self.path / "cached").write_text("".join(f"{path}\n" for path in _cached_folders()))
        environment = {
            "HOME": "/root",
            "NUMAD_VM_FOLDER": str(self.path),  # what a test leaves there comes out
            "NUMAD_VM_TESTS": self.guest.name,  # so that a skip here is a failure
            "PATH": f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            # Plugins cost 10 s of start here: hypothesis alone takes 8.5 s to import.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            **{name: value for name, value in os.environ.items() if name == "NUMAD_VM_TIMED"},
        }
        words = [*(f"{name}={value}" for name, value in environment.items()), *command]
        (self.path / "command").write_text(f"cd {shlex.quote(str(ROOT))} && env {shlex.join(words)}\n")

    def read(self, name: str) -> str | None:
        """Give what the guest wrote there, or None."""
        path = self.path / name
        return path.read_text().strip() or None if path.exists() else None


def _cached_folders() -> list[str]:
    """Name what Python reads at every start."""
    candidates = [
        sys.prefix,
        sysconfig.get_path("stdlib"),
        f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}",
        *(str(ROOT / name) for name in ("numad_py", "tests", "bench")),
    ]
    return [path for path in candidates if Path(path).is_dir()]


def _vng(guest: Guest, kernel: Path, *more: str) -> tuple[list[str], dict[str, str]]:
    """Give the command that boots the guest, and its environment."""
    command = [str(Path(sys.prefix) / "bin" / "vng"), "--run", str(kernel), "--name", guest.name]
    # /dev/kvm can exist and hang. Without --force-9p, vng waits 5 s in vain for each folder's virtiofsd.
    command += ["--disable-kvm", "--force-9p", "--user", "root"]
    command += [*guest.hardware(), "--rodir", "/mnt=/", "--overlay-rwdir", "/var/log", *more]
    if guest.counted:
        command.append(f"--qemu-opts={access_counts.qemu_options(guest)}")
    # vng finds its own parts through PATH, and not every user's PATH has sbin.
    path = f"{sys.prefix}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
    return command, os.environ | {"PATH": path}


def boot(guest: Guest, kernel: Path, command: list[str], limit_s: float) -> Run:
    """Run one command in one guest, its output on ours as it comes."""
    bench = Bench(guest)
    bench.prepare(command)
    turn = PerSecond(guest).turn if guest.counted else lambda: None
    script = shlex.join(["sh", str(ROOT / "tests" / "vm" / "inside.sh"), str(bench.path)])
    vng, environment = _vng(guest, kernel, "--verbose", "--rwdir", str(bench.path), "--exec", script)
    began_s = time.monotonic()
    with bench.console.open("wb") as console:
        process = subprocess.Popen(
            vng,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,  # one group, so that nothing of it outlives us
        )
        try:
            in_time = _follow(bench.output, process, began_s + limit_s, turn)
        finally:
            _kill_group(process)
    booted = bench.read("booted")
    return Run(
        guest,
        kernel.name.removeprefix("vmlinuz-"),
        boot_s=float(booted) if booted else None,
        wall_s=time.monotonic() - began_s,
        counts=_counts(bench.output.read_text(errors="replace")),
        trouble=_trouble(bench) if in_time else f"not done in {limit_s:.0f} s, killed",
    )


def _follow(
    output: Path, process: "subprocess.Popen[bytes]", until_s: float, turn: Callable[[], None]
) -> bool:
    """Copy the guest's output to ours, with a ``turn`` now and then; return whether the guest ended by itself."""
    with output.open("rb") as lines:
        while (running := process.poll() is None) and time.monotonic() < until_s:
            _copy(lines.read)
            turn()
            time.sleep(0.2)
        _copy(lines.read)
    return not running


def _copy(read: Callable[[], bytes]) -> None:
    sys.stdout.write(read().decode(errors="replace"))
    sys.stdout.flush()


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _counts(output: str) -> dict[str, int]:
    """Read pytest's closing line, such as ``== 3 passed, 2 deselected in 1.02s ==``."""
    closing = re.findall(r"^=+ (.* in [\d.:]+s.*?) =+$", output, re.MULTILINE)
    found = re.findall(r"(\d+) (passed|failed|skipped|errors?|xfailed)\b", closing[-1] if closing else "")
    return {word: int(number) for number, word in found}


def _trouble(bench: Bench) -> str:
    """Say what went wrong in a guest that ended by itself."""
    alarms = [line for line in _console_lines(bench) if _ALARM.match(line)]
    status = bench.read("status")
    if alarms:
        return f"the kernel said: {alarms[0].strip()}"
    if status is None:
        return "it ended without a status"
    if status == str(_NO_TESTS_RAN):
        return "no test ran"
    return "" if status == "0" else f"the command ended with status {status}"


def _console_lines(bench: Bench) -> list[str]:
    return bench.console.read_text(errors="replace").splitlines()


def _judge(run: Run, *, may_be_empty: bool) -> Run:
    """Count a skip as a failure; let a guest go empty where tests were chosen by hand."""
    trouble = run.trouble
    if trouble == "no test ran" and may_be_empty:
        trouble = ""
    if not trouble and run.counts.get("skipped"):
        trouble = "a test skipped itself, and in a guest every test must run"
    return Run(run.guest, run.kernel, run.boot_s, run.wall_s, run.counts, trouble)


def _show(run: Run) -> None:
    """Show what was counted, and the console where the output does not explain the trouble.

    It is shown from the first alarm on, or else its end.
    """
    if run.guest.counted and run.boot_s is not None:
        print(f"\n{run.guest.name}, since power-on: {AccessCounts.read(run.guest)}")
    if not run.trouble or run.trouble.startswith("the command"):
        return
    bench = Bench(run.guest)
    lines = _console_lines(bench)
    first = next((number for number, line in enumerate(lines) if _ALARM.match(line)), -_CONSOLE_SHOWN_LINES)
    print(f"\n{run.guest.name}: {run.trouble}. From {bench.console.relative_to(ROOT)}:")
    print("\n".join(lines[first:][:_CONSOLE_SHOWN_LINES]))


def _compile() -> None:
    """Compile ahead, what can be: the guest cannot keep what it compiles."""
    folders = [sysconfig.get_path("purelib"), *(str(ROOT / name) for name in ("numad_py", "tests"))]
    subprocess.run([sys.executable, "-m", "compileall", "-qq", *folders], check=False)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.vm.guest", description=__doc__)
    parser.add_argument("--guest", choices=sorted(BY_NAME), help="this guest only")
    parser.add_argument("--limit", type=float, default=900, metavar="SECONDS", help="per guest (%(default)s)")
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


def _pytest(arguments: argparse.Namespace) -> list[str]:
    chosen = [*(["-k", arguments.k] if arguments.k else []), *arguments.pytest]
    usual = ["-o", "addopts=--import-mode=importlib --strict-config --strict-markers"]  # for no plugin
    plain = ["-p", "no:cacheprovider", "--color=no", "-v", "-rfEs", "--durations=5"]
    return [sys.executable, "-m", "pytest", *usual, *plain, "tests/vm", *chosen]


def _guest(name: str, arguments: argparse.Namespace) -> Guest:
    guest = BY_NAME[name]
    return replace(guest, counted=guest.counted or arguments.count_accesses)


def _run_all(arguments: argparse.Namespace) -> list[Run]:
    chosen = bool(arguments.k or arguments.pytest)
    runs = []
    for name in [arguments.guest] if arguments.guest else [guest.name for guest in GUESTS]:
        guest = _guest(name, arguments)
        kernel = packages.ensure_kernel(guest.kernel, BUILD / "kernels")
        print(f"\nbooting {guest.name}: {len(guest.nodes)} nodes, Linux {kernel.parts[-3]}", flush=True)
        run = _judge(boot(guest, kernel, _pytest(arguments), arguments.limit), may_be_empty=chosen)
        _show(run)
        runs.append(run)
    return runs


def _bench(arguments: argparse.Namespace, guest: Guest) -> list[Run]:
    kernel = packages.ensure_kernel(guest.kernel, BUILD / "kernels")
    run = boot(guest, kernel, [sys.executable, *arguments.bench], arguments.limit)
    _show(run)
    return [run]


def _shell(guest: Guest) -> int:
    kernel = packages.ensure_kernel(guest.kernel, BUILD / "kernels")
    Bench(guest).path.mkdir(parents=True, exist_ok=True)  # for the counts of accesses
    command, environment = _vng(guest, kernel)
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other run of this checkout uses the folders and the cores."""
    (BUILD / "kernels").mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run of the guests to end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Do what the command line asks; 0 is success."""
    arguments = _arguments()
    if arguments.timed:
        os.environ["NUMAD_VM_TIMED"] = "1"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it too ends the guest
    packages.ensure_system_packages()
    try:
        with _alone():
            return _run(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted; the guest was ended", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace) -> int:
    access_counts.build()
    guest = _guest(arguments.guest or "two-nodes", arguments)
    if arguments.shell:
        return _shell(guest)
    _compile()
    runs = _bench(arguments, guest) if arguments.bench else _run_all(arguments)
    print("\n" + "\n".join(run.line() for run in runs))
    ran_none = not arguments.bench and not any(run.counts for run in runs)
    return int(ran_none or any(run.trouble for run in runs))


if __name__ == "__main__":
    sys.exit(main())
