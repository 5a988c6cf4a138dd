# SPDX-License-Identifier: Apache-2.0

"""The compiled loops do what their plain forms say: a loop that skips work would look fast."""

import platform
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from numad_py.calibrate import loops, memory

WORDS = 3 * loops.BLOCK_WORDS


@pytest.fixture
def words():
    return np.random.default_rng(1).integers(0, 1 << 63, WORDS, dtype=np.uint64)


def test_a_chase_visits_every_line_once_before_it_is_back():
    chain = np.zeros(1000 * loops.LINE_WORDS, np.uint64)
    memory.link(chain, np.random.default_rng(2))

    visited = [0]
    while (at := loops.chase(chain, visited[-1], 1)) != 0:
        visited.append(at)

    assert Counter(visited) == dict.fromkeys(range(0, chain.size, loops.LINE_WORDS), 1)


def test_the_order_of_a_chase_can_not_be_guessed():
    chain = np.zeros(1000 * loops.LINE_WORDS, np.uint64)
    memory.link(chain, np.random.default_rng(2))

    strides = np.diff(chain[:: loops.LINE_WORDS].astype(np.int64))

    assert Counter(strides.tolist()).most_common(1)[0][1] < 10


def test_steps_add_up():
    chain = np.zeros(64 * loops.LINE_WORDS, np.uint64)
    memory.link(chain, np.random.default_rng(3))

    assert loops.chase(chain, loops.chase(chain, 0, 5), 7) == loops.chase(chain, 0, 12)


def test_reading_sums_every_word(words):
    assert loops.read(words) == int(words.sum())


def test_reading_slowly_sums_every_word_too(words):
    assert loops.read_slowly(words, 0) == (int(words.sum()) + 1) % (1 << 64)


def test_a_pause_makes_its_multiplications(words):
    block = words[: loops.BLOCK_WORDS]
    total = int(block.sum()) + 1

    assert loops.read_slowly(block, 2) == ((total * total + 1) ** 2 + 1) % (1 << 64)


def test_writing_writes_every_word(words):
    loops.write(words, 7)

    assert set(words.tolist()) == {7}


def test_copying_copies_every_word(words):
    to = np.zeros_like(words)

    loops.copy(to, words)

    assert (to == words).all()


def test_cpuid_gives_the_vendor_that_the_kernel_shows():
    if platform.machine() != "x86_64":
        assert loops.cpuid(0) == b""
        return

    _, ebx, ecx, edx = np.frombuffer(loops.cpuid(0), np.uint32)

    vendor = np.array([ebx, edx, ecx], np.uint32).tobytes().decode()
    assert f"vendor_id\t: {vendor}\n" in Path("/proc/cpuinfo").read_text()
