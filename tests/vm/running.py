# SPDX-License-Identifier: Apache-2.0

"""A running program that speaks as tests.vm.workloads does."""

import subprocess
import time
from dataclasses import dataclass

PATIENCE_S = 240.0  # with what a busy host with two cores takes ten times as long for as an idle one

# Options of jobs, which use a quarter of a CPU: who moves pages waits for that CPU's answer, for each page that it uses.
REST = "--rests=3"
SMALL = ("--mb=32", REST)


@dataclass
class Workload:
    """A running process of tests.vm.workloads, and where its memory is."""

    process: subprocess.Popen
    start: int = 0
    end: int = 0

    @property
    def pid(self):
        return self.process.pid

    def ask(self, word):
        """Send a word and return the words of the answer."""
        self.tell(word)
        return self.answer()

    def tell(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        assert line, f"workload {self.process.args} ended with status {self.process.wait()}"
        return line.split()

    def goes_on(self):
        """Wait until it has used its memory once more than it had."""
        before, until_s = self.rounds, time.monotonic() + PATIENCE_S
        while self.rounds == before:
            assert time.monotonic() < until_s, "it stands still"
            time.sleep(0.1)

    @property
    def rounds(self):
        """How often it has used all its memory."""
        return int(self.ask("rounds")[1])

    def await_ready(self):
        """Wait for its memory to be allocated."""
        word, start, end = self.answer()
        assert word == "ready"
        self.start, self.end = int(start, 16), int(end, 16)
        return self

    def close(self):
        self.process.kill()
        self.process.communicate()
