# SPDX-License-Identifier: Apache-2.0

"""The folder that one guest shares with the host, and what both write there."""

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.vm.guests import Guest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "guest"

# What a kernel says when it is no longer well. Its "report a BUG" hints have no colon. The guest's init warns too,
# of programs that a small host does not have.
_ALARM = re.compile(
    r"(?!.*virtme-ng-init).*(Kernel panic|\bBUG:|\bWARNING:|\bOops:|general protection fault)"
)
_CONSOLE_SHOWN_LINES = 30
_NO_TESTS_RAN = 5  # pytest's exit status
FAILED = "the command ended with status 1"  # so pytest does where tests failed


@dataclass(frozen=True)
class Bench:
    """What the host lays out for one guest, and what it reads of it afterwards."""

    guest: Guest

    @property
    def path(self) -> Path:
        """The folder, as the host calls it."""
        return BUILD / self.guest.name

    @property
    def output(self) -> Path:
        """What the command printed."""
        return self.path / "output.log"

    @property
    def console(self) -> Path:
        """What the kernel printed."""
        return self.path / "console.log"

    def prepare(
        self, command: list[str], *, search: str, root: Path = ROOT, folder: Path | None = None
    ) -> None:
        """Lay out the command, of Python; what an earlier run left is gone.

        ``search`` is the guest's PATH; ``root`` and ``folder`` are its names of the checkout and of this folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for name in ("booted", "status"):
            (self.path / name).unlink(missing_ok=True)
        self.output.write_bytes(b"")
        environment = {
            "HOME": "/root",
            "NUMAD_VM_FOLDER": str(folder or self.path),  # what a test leaves there comes out
            "NUMAD_VM_TESTS": self.guest.name,  # so that a skip here is a failure
            "PATH": search,
            # Plugins cost 10 s of start here: hypothesis alone takes 8.5 s to import.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            **{name: value for name, value in os.environ.items() if name == "NUMAD_VM_TIMED"},
        }
        patched = [command[0], "-m", "tests.vm.patched"]
        words = [*(f"{name}={value}" for name, value in environment.items()), *patched, *command]
        (self.path / "command").write_text(f"cd {shlex.quote(str(root))} && env {shlex.join(words)}\n")

    def read(self, name: str) -> str | None:
        """Give what the guest wrote there, or None."""
        path = self.path / name
        return path.read_text().strip() or None if path.exists() else None

    def counts(self) -> dict[str, int]:
        """Read pytest's closing line, such as ``== 3 passed, 2 deselected in 1.02s ==``."""
        output = self.output.read_text(errors="replace")
        closing = re.findall(r"^=+ (.* in [\d.:]+s.*?) =+$", output, re.MULTILINE)
        found = re.findall(r"(\d+) (passed|failed|skipped|errors?|xfailed)\b", closing[-1] if closing else "")
        return {word: int(number) for number, word in found}

    def failed(self) -> tuple[str, ...]:
        """Read the names of tests out of lines such as ``FAILED tests/vm/test_demo.py::test_it - assert 1``."""
        output = self.output.read_text(errors="replace")
        lines = re.findall(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", output, re.MULTILINE)
        return tuple(dict.fromkeys(lines))

    def trouble(self) -> str:
        """Say what went wrong in a guest that ended by itself."""
        alarms = [line for line in self._console_lines() if _ALARM.match(line)]
        status = self.read("status")
        if alarms:
            return f"the kernel said: {alarms[0].strip()}"
        if status is None:
            return "it ended without a status"
        if status == str(_NO_TESTS_RAN):
            return "no test ran"
        return "" if status == "0" else f"the command ended with status {status}"

    def show_console(self) -> None:
        """Show the console from the first alarm on, or else its end."""
        lines = self._console_lines()
        alarms = (number for number, line in enumerate(lines) if _ALARM.match(line))
        print(f"From {self.console.relative_to(ROOT)}:")
        print("\n".join(lines[next(alarms, -_CONSOLE_SHOWN_LINES) :][:_CONSOLE_SHOWN_LINES]))

    def _console_lines(self) -> list[str]:
        return self.console.read_text(errors="replace").splitlines()
