# SPDX-License-Identifier: Apache-2.0

"""Run the daemon as its users do: as a process of its own, told by a file, ended by a signal."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from numad_py import trace
from tests.vm.running import PATIENCE_S


def started(program: str, words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start a module in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", program, *words], stderr=subprocess.PIPE, text=True, env=environment
    )


class Daemon:
    """A running ``numad-py daemon`` whose log and trace are kept; ready once constructed.

    What it keeps over restarts is beside its folder; ``program`` is the module that is run, and ``run`` runs it.
    """

    def __init__(
        self, folder: Path, *options: str, program: str = "numad_py", run: Any = started, **config: object
    ) -> None:
        self.trace_path = folder / "trace.jsonl.zst"
        self.log: list[str] = []
        path = folder / "numad.yaml"
        path.write_text("".join(f"{key}: {value}\n" for key, value in config.items()))
        words = ["daemon", "--config", str(path), "--trace", str(self.trace_path), *options]
        environment = os.environ | {"STATE_DIRECTORY": str(folder.parent / "state")}
        self.process = run(program, words, environment)
        self.wait_for("started")

    def wait_for(self, event: str) -> str:
        """Read the log up to a line with that event, and give the line."""
        for line in self.process.stderr:
            print(line, end="")
            self.log.append(line)
            if f"event={event}" in line or f'event="{event}"' in line:
                return line
        raise AssertionError(f"the daemon ended with {self.process.wait()} and never said {event!r}")

    def stop(self) -> int:
        """Send SIGTERM; give the exit status. The rest of the log is in ``log`` then."""
        if not self.process.stderr.closed:
            self.process.terminate()
            _, rest = self.process.communicate(timeout=PATIENCE_S)
            print(rest, end="")
            self.log += rest.splitlines(keepends=True)
        return self.process.returncode

    def ticks(self):
        """Give what it recorded."""
        _, ticks = trace.read(self.trace_path)
        return list(ticks)

    def outcomes(self):
        """Give every move with what became of it, in order of time."""
        return [
            (move, outcome)
            for tick in self.ticks()
            for move, outcome in zip(tick.plan.moves, tick.outcomes, strict=True)
        ]

    def call_s(self):
        """Give the time of every moving call, in seconds."""
        return [call_s for _, outcome in self.outcomes() for call_s in outcome.call_s]
