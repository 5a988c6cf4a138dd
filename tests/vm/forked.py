# SPDX-License-Identifier: Apache-2.0

"""Processes that run a module as ``python -m`` does, forked from one that has imported what it needs.

An emulated CPU takes 15 seconds to import what the daemon needs, and a guest starts it some twenty times. What is run
is the same; that it also starts from nothing is what the systemd guest and the soak show.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys

IMPORTED = ["tests.vm.imported"]

_servers = multiprocessing.get_context("forkserver")
_servers.set_forkserver_preload(IMPORTED)


class Forked:
    """What of ``subprocess.Popen`` tests use; its stderr is a pipe."""

    def __init__(self, program, words, environment):
        reader, writer = _servers.Pipe(duplex=False)
        self._process = _servers.Process(target=_run, args=(program, words, environment, writer), daemon=True)
        self._process.start()
        writer.close()
        self.pid = self._process.pid
        self.stderr = os.fdopen(os.dup(reader.fileno()))

    @property
    def returncode(self):
        return self._process.exitcode

    def terminate(self):
        self._process.terminate()

    def kill(self):
        self._process.kill()

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self.returncode

    def communicate(self, timeout=None):
        """Give what it says until it ends, as Popen does: nothing of stdout, and stderr."""
        with self.stderr:
            rest = self.stderr.read()
        self.wait(timeout)
        return None, rest


def _run(program, words, environment, stderr):
    os.dup2(stderr.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = words
    runpy.run_module(program, run_name="__main__", alter_sys=True)
