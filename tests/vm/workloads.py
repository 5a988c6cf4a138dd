# SPDX-License-Identifier: Apache-2.0

"""Little jobs with a placement worth repairing: ``python -m tests.vm.workloads KIND --mb 200``.

Each tells ``ready START END`` (hexadecimal addresses of its memory) on stdout,
then obeys words on stdin, answering each that has an answer with one line:

    bind      bind itself to the CPUs of --run-on and touch its memory round and round
    rest      stop touching
    rounds    answer ``rounds N``, the rounds done so far
    exec      become a new program with new memory (kind ``exec``); answers ``ready`` again
    hold      hold its own mmap lock until the file system of --file has answered; answers ``held``
    workers   answer ``workers PID PID ...``, by shard (kind ``shards``)
    steps     answer ``steps BEGIN END ROUNDS ...``, of all steps since it was last asked (kind ``steps``)

The kind ``halves`` obeys none: at once a thread on --allocate-on writes the first half of its memory round and
round, one on --run-on the second, and each tells ``thread TID NODE``; --unbound, both run on any CPU.
Once bound, a ``wanderer`` goes to the other of its two nodes every --stay-s, and ``short-lived`` starts a late-bound
child every --pause-s that lives for --live-s, twenty in all.

The end of stdin ends it. No numpy: it starts in a moment.
"""

import argparse
import ctypes
import mmap
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from numad_py.runtime import one_step
from tests.vm.job_memory import PAGES, address_of, allocate, bind_memory, cpus_of, pin, run_on, touch

KINDS = (
    "late-bound",
    "bound",
    "exec",
    "pinned",
    "reader",
    "forked",
    "shards",
    "halves",
    "wanderer",
    "short-lived",
    "steps",
)

_BASE_PAGE_BYTES = mmap.PAGESIZE
_HUGE_PAGE_BYTES = 2 << 20
_HEADS = (0, _HUGE_PAGE_BYTES // _BASE_PAGE_BYTES)
_READ_BYTES = 1 << 20
_SCRATCH_PAGES = 64
_PART_BYTES = 1 << 20
_ROUND_BYTES = 8  # of a count of rounds
_MPOL_F_NUMA_BALANCING = 1 << 13
_SHORT_LIVED = 20  # children

_MAPPINGS = ("private", "shared", "file")


def map_for_all(options: argparse.Namespace) -> mmap.mmap:
    """Allocate and touch memory that forked processes share, as --mapping says; a file is written, and then mapped."""
    if options.mapping == "private":
        return allocate(options.mb, options.pages)
    if options.mapping == "file":
        with Path(options.file).open("wb") as stream:
            stream.writelines(b"\1" * (1 << 20) for _ in range(options.mb))
        return map_file(options.file)
    memory = mmap.mmap(-1, options.mb << 20)
    touch(memory)
    return memory


def map_file(file: str) -> mmap.mmap:
    """Map a file to be read, and read a byte of every page."""
    with Path(file).open("rb") as stream:
        memory = mmap.mmap(stream.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
    _ = memory[::_BASE_PAGE_BYTES]
    return memory


def share_with_a_child(memory: mmap.mmap, own: Iterable[int]) -> None:
    """Share all pages with a child that ends with this process, but those written afterwards."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(writer)
        os.read(reader, 1)  # returns when the parent is gone
        os._exit(0)
    os.close(reader)
    for page in own:
        memory[page * _BASE_PAGE_BYTES] = 2


class Lockstep:
    """Lets workers go round together: who is first waits, busy, for the others.

    So each makes as many accesses and uses as much CPU time as the others, where the host gives one emulated CPU less.
    """

    def __init__(self, workers: int) -> None:
        """Make it before forking."""
        self._rounds = memoryview(mmap.mmap(-1, workers * _ROUND_BYTES)).cast("Q")

    def wait(self, index: int, done: Callable[[], bool]) -> None:
        """Return when all have come as far as the worker of that index now has, or are done."""
        self._rounds[index] += 1
        mine = self._rounds[index]
        while min(self._rounds) < mine and not done():
            pass


def fork_workers(memory: mmap.mmap, options: argparse.Namespace) -> list[int]:
    """Fork workers that read a shard each, round and round, and end with this process; half of them on each node."""
    shard = len(memory) // options.workers // _BASE_PAGE_BYTES * _BASE_PAGE_BYTES
    pids, lockstep = [], Lockstep(options.workers) if options.lockstep else None
    for index in range(options.workers):
        pids.append(os.fork())
        if pids[-1] == 0:
            run_on(options.allocate_on if 2 * index < options.workers else options.run_on)
            if options.mapping == "file":
                memory = map_file(options.file)
            keep_step = partial(lockstep.wait, index) if lockstep else None
            read_shard(memoryview(memory)[index * shard : (index + 1) * shard], options, keep_step)
    return pids


def read_shard(
    shard: memoryview, options: argparse.Namespace, keep_step: Callable[[Callable[[], bool]], None] | None
) -> None:
    """Read one byte of every page and rest, for as long as the parent lives; does not return.

    Unmaps more than 33 pages (tlb_single_page_flush_ceiling in arch/x86/mm/tlb.c) in each round, as
    workers do who have buffers: this empties the TLB. An emulated one can hold all of a shard, and
    what stays in a TLB does not set accessed bits again.
    """
    parent = os.getppid()

    def is_orphan() -> bool:
        return os.getppid() != parent

    while not is_orphan():
        began_s = time.monotonic()
        bytes(shard[::_BASE_PAGE_BYTES])
        with mmap.mmap(-1, _SCRATCH_PAGES * _BASE_PAGE_BYTES) as scratch:
            touch(scratch)
        rest(began_s, options)
        if keep_step:
            keep_step(is_orphan)
    os._exit(0)


def hold_mmap_lock(file: str) -> None:
    """Map a file that holds a dirty page: see tests.vm.fuse_file."""
    writable, direct = os.open(file, os.O_RDWR), os.open(file, os.O_RDONLY)
    with mmap.mmap(writable, _BASE_PAGE_BYTES) as shared:
        shared[0] = 1
        mmap.mmap(direct, _BASE_PAGE_BYTES, mmap.MAP_PRIVATE, mmap.PROT_READ).close()
    os.close(writable)
    os.close(direct)


def touch_halves(memory: mmap.mmap, options: argparse.Namespace, lockstep: Lockstep | None) -> None:
    """Start a thread on each node that writes its half round and round, without the interpreter's lock."""
    nodes = (options.allocate_on, options.run_on)
    half, bound_to = len(memory) // 2, nodes[0] if options.stays else None
    for index, node in enumerate(nodes):
        start = address_of(memory) + index * half
        keep_step = partial(lockstep.wait, index, lambda: False) if lockstep else None
        cpus = cpus_of(nodes[0]) | cpus_of(nodes[1]) if options.unbound else cpus_of(node)
        args = (start, half, node, cpus, bound_to, keep_step)
        threading.Thread(target=_write_for_ever, args=args, daemon=True).start()
    if options.unbound:
        os.sched_setaffinity(0, cpus_of(nodes[0]) | cpus_of(nodes[1]))


def _write_for_ever(
    start: int,
    length: int,
    node: int,
    cpus: set[int],
    bound_to: int | None,
    keep_step: Callable[[], None] | None,
) -> None:
    if bound_to is not None:
        # Since Linux commit bda420b98505 ("numa balancing: migrate on fault among multiple bound nodes") (in v5.12)
        # balancing scans what a thread with this policy uses, and mpol_misplaced() in mm/mempolicy.c keeps it where
        # it is. The leader has no policy, so that numa_maps shows none.
        bind_memory(bound_to, _MPOL_F_NUMA_BALANCING)
    os.sched_setaffinity(threading.get_native_id(), cpus)
    os.write(1, f"thread {threading.get_native_id()} {node}\n".encode())  # in one piece: another says so too
    while True:
        # In step all at once: between parts it would have to wait for the interpreter, in which the other one waits.
        part_bytes = length if keep_step else _PART_BYTES
        for part in range(start, start + length, part_bytes):
            ctypes.memset(part, 1, min(part_bytes, start + length - part))
        if keep_step:
            keep_step()


def obey(work: Callable[[], None], options: argparse.Namespace) -> None:
    """Follow the words on stdin, working between them once bound."""
    rounds, busy = 0, False
    while True:
        heard, _, _ = select.select([0], [], [], 0 if busy else None)
        words = os.read(0, 4096).decode().split() if heard else []
        if heard and not words:
            return
        for word in words:
            busy = _turn(word, options, busy=busy, rounds=rounds)
        if busy:
            began_s = time.monotonic()
            work()
            rounds += 1
            rest(began_s, options)


def rest(began_s: float, options: argparse.Namespace) -> None:
    """Rest after a round that began then: in proportion, a job uses the same share of a slow host's CPU and a fast one's."""
    time.sleep(options.rest_s + options.rests * (time.monotonic() - began_s))


def _turn(word: str, options: argparse.Namespace, *, busy: bool, rounds: int) -> bool:
    """Do one word; return whether to be busy afterwards."""
    if word == "bind":
        run_on(options.run_on)
    elif word == "rounds":
        print("rounds", rounds, flush=True)
    elif word == "exec":
        _become_another(options)
    elif word == "hold":
        hold_mmap_lock(options.file)
        print("held", flush=True)
    elif word == "steps":
        print("steps", *options.steps, flush=True)
        options.steps.clear()
    elif word == "workers":
        print("workers", *options.pids, flush=True)
    return {"bind": True, "rest": False}.get(word, busy)


def _become_another(options: argparse.Namespace) -> None:
    """Exec a late-bound job of the same size, whose memory is all new."""
    same = ("mb", "pages", "allocate_on", "run_on")
    again = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in same]
    os.execv(sys.executable, [sys.executable, "-m", "tests.vm.workloads", "late-bound", *again])


def wander(memory: mmap.mmap, options: argparse.Namespace) -> Callable[[], None]:
    """Give the work of touching memory, and going to the other node when it is time."""
    nodes = (options.run_on, options.allocate_on)
    began_s, stay = time.monotonic(), 0

    def work() -> None:
        nonlocal stay
        if (now := int((time.monotonic() - began_s) / options.stay_s)) != stay:
            stay = now
            run_on(nodes[stay % 2])
        touch(memory)

    return work


def make_steps(memory: mmap.mmap, options: argparse.Namespace) -> Callable[[], None]:
    """Give the work of one step, which it tells: as many rounds as fit; begin, end and rounds are kept."""
    options.steps = []

    def work() -> None:
        with one_step():
            rounds, began_s = 0, time.monotonic()
            while time.monotonic() < began_s + options.step_s:
                touch(memory)
                rounds += 1
            options.steps += [began_s, time.monotonic(), rounds]

    return work


def start_short_lived(options: argparse.Namespace) -> Callable[[], None]:
    """Give the work of starting a child now and then, until there were enough."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nobody has to wait for them
    left = _SHORT_LIVED

    def work() -> None:
        nonlocal left
        if left and os.fork() == 0:
            _live_late_bound(options)
        left = max(left - 1, 0)
        time.sleep(options.pause_s)

    return work


def _live_late_bound(options: argparse.Namespace) -> None:
    """Allocate on one node, work on the other, and end."""
    until_s = time.monotonic() + options.live_s
    run_on(options.allocate_on)
    memory = allocate(options.mb, options.pages)
    run_on(options.run_on)
    while time.monotonic() < until_s:
        touch(memory)
    os._exit(0)


def read_round(file: str) -> Callable[[], None]:
    """Give the work of reading a file from end to end."""
    buffer = bytearray(_READ_BYTES)

    def work() -> None:
        with Path(file).open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass

    return work


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.vm.workloads")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--mb", type=int, default=64, help="MiB of memory (%(default)s)")
    parser.add_argument("--pages", choices=PAGES, default="4k")
    parser.add_argument("--allocate-on", type=int, default=0, metavar="NODE")
    parser.add_argument("--run-on", type=int, default=1, metavar="NODE")
    parser.add_argument("--pin", type=int, nargs="*", default=[], metavar="PAGE", help="page numbers to pin")
    parser.add_argument("--pin-heads", action="store_true", help="pin the first of the first two huge blocks")
    parser.add_argument("--own", type=int, nargs="*", default=[], metavar="PAGE", help="not shared if forked")
    parser.add_argument("--workers", type=int, default=2, help="how many to fork (%(default)s)")
    parser.add_argument("--rest-s", type=float, default=0, help="what is rested between rounds")
    parser.add_argument(
        "--rests", type=float, default=0, help="so many times as long as a round took, besides"
    )
    parser.add_argument("--mapping", choices=_MAPPINGS, default="private", help="what the shards are of")
    parser.add_argument(
        "--stays", action="store_true", help="let balancing sample the halves and move nothing"
    )
    parser.add_argument("--unbound", action="store_true", help="bind no thread of the halves to anything")
    parser.add_argument("--stay-s", type=float, default=25, help="how long a wanderer stays (%(default)s)")
    parser.add_argument("--pause-s", type=float, default=1.5, help="between children (%(default)s)")
    parser.add_argument("--live-s", type=float, default=6, help="how long a child lives (%(default)s)")
    parser.add_argument("--step-s", type=float, default=0.25, help="how long a step takes (%(default)s)")
    parser.add_argument("--lockstep", action="store_true", help="let the workers go round together")
    parser.add_argument("--file", help="what the reader reads, hold maps, or the shards are of")
    return parser.parse_args()


def _memory(options: argparse.Namespace) -> mmap.mmap:
    if options.kind == "shards":
        return map_for_all(options)
    return allocate(1 if options.kind == "short-lived" else options.mb, options.pages)


def main() -> None:
    """Allocate, say so, obey."""
    options = _options()
    run_on(options.allocate_on)
    if options.kind == "bound":
        bind_memory(options.allocate_on)
    memory = _memory(options)
    start = 0 if options.mapping == "file" else address_of(memory)  # ctypes refuses what may not be written
    if options.kind == "forked":
        share_with_a_child(memory, options.own)
    if options.kind == "shards":
        options.pids = fork_workers(memory, options)
    pin(start, options.pin)
    pin(-(-start // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES, _HEADS if options.pin_heads else ())
    print("ready", f"{start:x}", f"{start + len(memory):x}", flush=True)
    if options.kind == "halves":
        touch_halves(memory, options, Lockstep(2) if options.lockstep else None)
        sys.stdin.read()
    obey(_work(memory, options), options)


def _work(memory: mmap.mmap, options: argparse.Namespace) -> Callable[[], None]:
    if options.kind == "reader":
        return read_round(options.file)
    if options.kind == "wanderer":
        return wander(memory, options)
    if options.kind == "short-lived":
        return start_short_lived(options)
    if options.kind == "steps":
        return make_steps(memory, options)
    return lambda: touch(memory)


if __name__ == "__main__":
    main()
