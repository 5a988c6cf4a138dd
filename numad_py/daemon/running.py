# SPDX-License-Identifier: Apache-2.0

"""Run the service from its start to its end: signals heard, configuration read anew, every tick handed on."""

import gc
import platform
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Final

import psutil
import structlog

from numad_py import __version__
from numad_py.act.gate import Gate
from numad_py.daemon import (
    control,
    control_socket,
    housekeeping,
    kept,
    metrics,
    reports,
    rights,
    state,
)
from numad_py.daemon.clock import LiveClock
from numad_py.daemon.config import AT_START, Config
from numad_py.daemon.health import Health
from numad_py.daemon.kept import Backoffs
from numad_py.daemon.manager import Manager
from numad_py.daemon.metrics import Metrics
from numad_py.daemon.pause import Pause
from numad_py.daemon.recording import Sink, recording, written
from numad_py.daemon.said_labels import SaidLabels
from numad_py.daemon.service import Service
from numad_py.daemon.status import Ledger
from numad_py.kernel import capabilities
from numad_py.model import Explanation, ProcessKey, Tick
from numad_py.profile import ProfileError

ONCE_TURNS: Final = 10  # after which --once gives up waiting for something to do


class Daemon:
    """One service after another, each as the configuration was when it began."""

    def __init__(self, read: Callable[[], Config], folder: Path, *, dry_run: bool) -> None:
        """Wire the first one; ``read`` gives the configuration as it is now. Raises as ``Service`` does.

        ``folder`` holds what survives a restart.
        """
        self._read = read
        self._reload_wanted = False
        self._told = ""  # who speaks against acting, as it was said last
        self.gate = Gate()
        if dry_run:
            self.gate.close("command line", "--dry-run")
        rights.apply(capabilities.effective(), self.gate)
        self.pause = Pause(folder, self.gate)
        self.ledger = Ledger()
        self._asked: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.service = Service(read(), self.gate, affinities=kept.journal(folder))
        self.service.restore_affinities()  # what a daemon left that was killed
        self.backoffs = Backoffs(folder)
        self.service.policy.recall(self.backoffs.waits)
        self.labels = SaidLabels(folder, self.service.mount)
        self._relabel()
        self.health = Health(folder, self.gate)
        self.manager = Manager(self.service.config.period_s)

    def ticks(self) -> Iterator[Tick]:
        """Yield every turn until the clock is stopped."""
        going_on = True
        while going_on:
            going_on = False
            with closing(self.service.ticks()) as turns:
                for tick in turns:
                    self._turned()
                    yield tick
                    if going_on := self._reload_wanted and self._is_readable():
                        break
            if going_on:
                self._reload()

    def reload(self) -> None:
        """Read the configuration anew after the turn under way; safe in a signal handler."""
        self._reload_wanted = True
        self.service.clock.wake()

    def end(self) -> None:
        """Leave nothing behind but what is to be known at the next start; after a crash too."""
        self.service.restore_affinities()
        self.backoffs.save(self.service.policy)

    def office(self) -> control.Office:
        """Give what clients see and change, in a thread of their own."""
        return control.Office(
            gate=self.gate,
            pause=self.pause,
            labels=self.labels,
            ledger=self.ledger,
            jobs=lambda: self.service.jobs,
            config=lambda: self.service.config,
            replaced=lambda: {each.profile: each.why for each in self.service.others if each.why},
            resume=lambda: self._soon(self.health.resume),
            restore=lambda: self._soon(self._restore),
            relabel=lambda: self._asked.put(self._relabel),
            explain=self._explain,
            mount=self.service.mount,
        )

    def _explain(self, key: ProcessKey) -> Future[Explanation | None]:
        """Have the loop ask the policy between two turns: in one, it is not of one mind."""
        answer = Future[Explanation | None]()

        def ask() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(self.service.policy.explain(key))
                except Exception as error:  # noqa: BLE001 - no question of a user may end the loop
                    answer.set_exception(error)

        self.service.clock.meanwhile(ask)
        return answer

    def _soon(self, do: Callable[[], None]) -> None:
        """Have the loop do it at the end of a turn, which begins at once, however long the period is."""
        self._asked.put(do)
        self.service.clock.wake()

    def _restore(self) -> None:
        self.service.restore_affinities()

    def _relabel(self) -> None:
        jobs = self.service.jobs
        jobs.rules = replace(jobs.rules, said=self.labels.by_cgroup)

    def _turned(self) -> None:
        while not self._asked.empty():
            self._asked.get()()
        self.health.turn()
        self.backoffs.turn(self.service.policy)
        why = "; ".join(f"{who}: {why}" for who, why in self.gate.closed_by.items())
        if why != self._told:
            self._told = why
            say = structlog.get_logger().info
            say("not acting", why=why) if why else say("acting")
        self.manager.turned(f"not acting: {why}" if why else "acting")

    def _is_readable(self) -> bool:
        """Say whether there is a configuration to go on with; where there is none, all stays as it is."""
        self._reload_wanted = False
        try:
            self._next = self._read()
        except ProfileError as error:
            structlog.get_logger().error("not reloaded", why=str(error), note="the old configuration stays")
            return False
        return True

    def _reload(self) -> None:
        old, new = self.service.config, self._next
        self.manager.reloading()
        self.service.restore_affinities()  # as at a restart: the policies that come know of none
        self.service = Service(new, after=self.service)
        gc.collect()  # the one before is rings of references, in which all lives on that it saw
        self.manager.lengthen(new.period_s)
        self.manager.ready()
        changed = [each.name for each in fields(Config) if getattr(old, each.name) != getattr(new, each.name)]
        structlog.get_logger().info("reloaded", changed=",".join(changed))
        if waiting := sorted(AT_START.intersection(changed)):
            structlog.get_logger().warning(
                "not yet", keys=",".join(waiting), note="these take effect at the next start"
            )


def run(read: Callable[[], Config], *, dry_run: bool, once: bool) -> None:
    """Run the daemon until SIGTERM or SIGINT, or with ``once`` until something was done."""
    with ExitStack() as opened:
        # A rehearsal leaves no trace of itself, so that it may run beside the service.
        runtime = control_socket.folder()
        if not dry_run:
            opened.enter_context(control_socket.alone(runtime))
        folder = Path(opened.enter_context(TemporaryDirectory())) if dry_run else state.folder()
        daemon = Daemon(read, folder, dry_run=dry_run)
        opened.enter_context(heard_signals(daemon.service.clock, daemon.reload))
        opened.callback(daemon.end)  # while signals are still heard: a second one must not end it
        daemon.health.begin()
        housekeeping.keep(daemon.service.topology)
        sinks: list[Sink] = [opened.enter_context(recording(daemon.service))]
        if not dry_run:
            opened.enter_context(control.served(daemon.office(), runtime))
            opened.enter_context(reports.heard(runtime, daemon.service.jobs.reported.hear))
            sinks.append(daemon.ledger)
        sinks += opened.enter_context(_metrics(daemon, dry_run=dry_run))
        _greet(daemon.service)
        daemon.manager.ready()
        for turn, tick in enumerate(daemon.ticks(), 1):
            sinks = [written(sink, tick) for sink in sinks]
            if once and (tick.plan.moves or turn == ONCE_TURNS):
                break
        daemon.manager.stopping()
        daemon.health.end()
    structlog.get_logger().info("stopped", note="pages that were moved stay where they are", **_own_cost())


def _metrics(daemon: Daemon, *, dry_run: bool) -> AbstractContextManager[list[Metrics]]:
    config = daemon.service.config
    return metrics.published(
        daemon.gate,
        lambda: daemon.service.look_s,  # of the one that runs now
        lambda: daemon.service.taken_back,
        None if dry_run else config.metrics_textfile,
        period_s=config.metrics_period_s,
        others=lambda: daemon.service.others,
    )


def _own_cost() -> dict[str, float]:
    """Give what this process has cost so far: its age, its CPU seconds, its resident MB = 2^20 bytes."""
    us = psutil.Process()
    times = us.cpu_times()
    return {
        "up_s": round(time.time() - us.create_time(), 1),
        "cpu_s": round(times.user + times.system, 2),
        "rss_mb": round(us.memory_info().rss / 2**20, 1),
    }


def _greet(service: Service) -> None:
    log = structlog.get_logger()
    log.info(
        "started",
        version=__version__,
        kernel=platform.release(),
        nodes=",".join(map(str, service.topology.node_ids)),
        mode=str(service.config.mode),
        acting=service.gate.is_open,
    )
    if len(service.topology.nodes) == 1:
        log.warning(
            "one node", note="this host has a single NUMA node; there is nothing to move, observing on"
        )
    if kernel_balances():
        log.warning(
            "two movers",
            note="kernel.numa_balancing is on: the kernel moves pages too; this is left as it is",
        )


def kernel_balances(root: Path = Path("/")) -> bool:
    """Say whether the kernel's own NUMA balancing is on."""
    try:
        return (root / "proc/sys/kernel/numa_balancing").read_text().strip() != "0"
    except FileNotFoundError:  # a kernel built without it
        return False


@contextmanager
def heard_signals(clock: LiveClock, reload: Callable[[], None] | None = None) -> Iterator[None]:
    """Let SIGTERM and SIGINT end the loop after the turn under way, and SIGHUP reload where there is something to."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        clock.stop()

    heard = dict.fromkeys((signal.SIGTERM, signal.SIGINT), stop)
    if reload is not None:
        heard[signal.SIGHUP] = lambda _signal, _frame: reload()
    before = {number: signal.signal(number, handler) for number, handler in heard.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
