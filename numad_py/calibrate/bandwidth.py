# SPDX-License-Identifier: Apache-2.0

"""How many bytes a second CPUs read, write and copy."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import cycle
from typing import Any, Final

import numpy as np

from numad_py.calibrate import loops
from numad_py.calibrate.figures import Effort, Quantity
from numad_py.calibrate.loops import Words
from numad_py.calibrate.threads import on_cpus

GB: Final = 10**9
_CHUNK_WORDS: Final = 1 << 20  # 8 MiB, between two looks at the clock
_VALUE: Final = 0x0101


def _copy_half(words: Words) -> None:
    half = words.size // 2
    loops.copy(words[:half], words[half : 2 * half])


LOOPS: Final[Mapping[Quantity, Callable[[Words], Any]]] = {
    Quantity.READ: loops.read,
    Quantity.WRITE: lambda words: loops.write(words, _VALUE),
    Quantity.COPY: _copy_half,
}
"""Each touches all bytes of the words given once: copying reads one half and writes the other."""


def repeated(streams: Mapping[int, Words], operation: Quantity, effort: Effort) -> list[dict[int, float]]:
    """Let CPUs go through memory at once, each through its own words; give bytes a second, by CPU, per repetition."""
    work = {cpu: partial(_for_a_window, LOOPS[operation], words, effort) for cpu, words in streams.items()}
    return [on_cpus(work) for _ in range(effort.repetitions + 1)][1:]


def rate(loop: Callable[[Words], Any], words: Words, until: Callable[[float], bool]) -> float:
    """Go through the words round and round until the clock says so; give bytes a second."""
    began_s = now_s = time.perf_counter()
    done_bytes = 0
    for chunk in cycle(_chunks(words)):
        if until(now_s):
            break
        loop(chunk)
        done_bytes += chunk.nbytes
        now_s = time.perf_counter()
    return done_bytes / max(now_s - began_s, 1e-9)


def share_out(words: Words, cpus: tuple[int, ...]) -> dict[int, Words]:
    """Give each CPU words of its own, of whole lines."""
    lines = words.size // loops.LINE_WORDS
    edges = np.linspace(0, lines, len(cpus) + 1).astype(int) * loops.LINE_WORDS
    return {cpu: words[a:b] for cpu, a, b in zip(cpus, edges[:-1], edges[1:], strict=True)}


def _for_a_window(loop: Callable[[Words], Any], words: Words, effort: Effort) -> float:
    end_s = time.perf_counter() + effort.window_s
    return rate(loop, words, until=lambda now_s: now_s >= end_s)


def _chunks(words: Words) -> Iterator[Words]:
    for first in range(0, words.size, _CHUNK_WORDS):
        yield words[first : first + _CHUNK_WORDS]
