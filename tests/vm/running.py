# SPDX-License-Identifier: Apache-2.0

"""A running program that speaks as tests.vm.workloads does."""

import subprocess
from dataclasses import dataclass

# Options of two jobs on one CPU: it has to answer who moves pages, for each page of them, on a slow host too.
SMALL = ("--mb=32", "--rest-s=0.05")


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

    def await_ready(self):
        """Wait for its memory to be allocated."""
        word, start, end = self.answer()
        assert word == "ready"
        self.start, self.end = int(start, 16), int(end, 16)
        return self

    def close(self):
        self.process.kill()
        self.process.communicate()
