# SPDX-License-Identifier: Apache-2.0

"""Metrics for Prometheus: counted at every turn, published every few seconds, to a file and to sockets."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from numad_py.act.gate import Gate
from numad_py.daemon import activation
from numad_py.daemon.metrics.counting import Counting
from numad_py.daemon.metrics.textfile import Textfile
from numad_py.daemon.others.external import External
from numad_py.model import Tick

SOCKET = "metrics"  # FileDescriptorName= of its unit


class Metrics:
    """A sink of ticks.

    ``look_s`` tells how long the last look took, ``taken_back`` how many threads have back the CPUs that they had;
    ``render`` writes down what was counted; ``others`` are the policies that ask other programs.
    """

    def __init__(
        self,
        gate: Gate,
        look_s: Callable[[], float],
        taken_back: Callable[[], int],
        render: Callable[[Counting], bytes],
        textfile: Textfile | None,
        *,
        period_s: float,
        others: Callable[[], Sequence[External]] = tuple,
    ) -> None:
        self.text = b""
        self._counting = Counting(gate, taken_back, others)
        self._gate = gate
        self._look_s = look_s
        self._render = render
        self._textfile = textfile
        self._period_s = period_s
        self._published_s = float("-inf")
        self._closed_by: dict[str, str] = {}  # as it was published last

    def write(self, tick: Tick) -> None:
        """Count one turn, and publish where it is time to, or where there is something else to say about acting."""
        self._counting.take(tick, self._look_s())
        now_s, closed_by = time.monotonic(), self._gate.closed_by
        if now_s - self._published_s >= self._period_s or closed_by != self._closed_by:
            self._published_s, self._closed_by = now_s, closed_by
            # One value, replaced at once: whoever asks by HTTP gets this one, and cannot make us work.
            self.text = self._render(self._counting)
            if self._textfile:
                self._textfile.write(self.text)


@contextmanager
def published(
    gate: Gate,
    look_s: Callable[[], float],
    taken_back: Callable[[], int],
    path: str | None,
    *,
    period_s: float,
    others: Callable[[], Sequence[External]] = tuple,
) -> Iterator[list[Metrics]]:
    """Give a sink that publishes what it counts; none where nobody would read it."""
    textfile, sockets = _textfile(path), activation.sockets(SOCKET)
    if not textfile and not sockets:
        yield []
        return
    try:
        from numad_py.daemon.metrics import exposition, http  # noqa: PLC0415 - 1.5 MB, where nobody wants it
    except ImportError:
        why = "prometheus-client is missing: pip install 'numad-py[metrics]'"
        structlog.get_logger().warning("no metrics", why=why)
        yield []
        return
    metrics = Metrics(gate, look_s, taken_back, exposition.text, textfile, period_s=period_s, others=others)
    for each in sockets:
        http.serve(each, lambda: metrics.text)
    yield [metrics]
    if textfile:  # but not after a crash: a file that grows old says so
        textfile.remove()


def _textfile(path: str | None) -> Textfile | None:
    """Give the file; a path that is not absolute is in the folder that systemd made for us (RuntimeDirectory=)."""
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if path is None or not (folder or path.startswith("/")):
        return None
    return Textfile(Path(folder, path))
