# SPDX-License-Identifier: Apache-2.0

"""Say what asking another program costs a turn: 200 processes of 300 regions, told whole, or what changed of them.

``python bench/external.py [TURNS]`` answers from a thread of this process, which reads and does no more.
"""

import socket
import statistics
import sys
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import trace_size
from numad_py import trace
from numad_py.daemon.others.conversation import Conversation

EVERY = {"whole at every turn": 1, "whole at every 60th turn": 60}


def main():
    """Print the time of a turn, and what is sent in it."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 59
    for words, keyframe_every in EVERY.items():
        taken_ms, sent_bytes = asked(turns, keyframe_every)
        print(
            f"{words}: {statistics.median(taken_ms):.1f} ms in the median, {max(taken_ms):.1f} ms at the most,"
            f" {sent_bytes / turns / 2**10:.0f} KiB a turn"
        )


def asked(turns, keyframe_every):
    """Ask so many times; give what each but the first took, and what was sent in all of them."""
    random = np.random.default_rng(1)
    held = {1000 + n: trace_size.begun(random) for n in range(trace_size.PROCESSES)}
    ours, theirs = socket.socketpair()
    sent, taken_ms = [0], []
    threading.Thread(target=answering, args=(theirs, sent), daemon=True).start()
    header = trace.Header(topology=trace_size.ON, kernel="none", boot_id="0", started_unix_s=0.0)
    conversation = Conversation(ours, header, keyframe_every=keyframe_every)
    for at in range(turns + 1):
        seen = trace_size.look(at, held, random).snapshot
        begin_s = time.perf_counter()
        conversation.decide(seen, time.monotonic() + 60)
        taken_ms.append((time.perf_counter() - begin_s) * 1e3)
        trace_size.go_on(held, random)
    conversation.close()
    return taken_ms[1:], sent[0]


def answering(connection, sent):
    """Read every line, and wish for nothing."""
    with connection, connection.makefile("rb") as lines:
        next(lines)
        for number, line in enumerate(lines):
            sent[0] += len(line) if number else 0
            connection.sendall(b'{"number": %d}\n' % number)


if __name__ == "__main__":
    main()
