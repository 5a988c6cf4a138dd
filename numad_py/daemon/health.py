# SPDX-License-Identifier: Apache-2.0

"""Put the daemon into observe when it crashes time and again, or when the kernel is no longer well."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from numad_py.act.gate import Gate
from numad_py.daemon import state
from numad_py.kernel import alarms

CRASHES: Final = 3
WITHIN_S: Final = 600.0
WHO: Final = "health"
_UNTIL: Final = "observing until `numad-py resume`"


@dataclass(frozen=True)
class Record:
    """What is kept over restarts: times are CLOCK_BOOTTIME, ``tripped`` says why it observes.

    ``running`` is true from a start to its orderly end, so that a start that finds it true follows a crash.
    """

    boot_id: str
    crashes_s: tuple[float, ...] = ()
    running: bool = False
    tripped: str = ""


def _boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Health:
    """Closes the gate when something is wrong, until told to resume. ``folder`` is where it remembers."""

    def __init__(
        self, folder: Path, gate: Gate, root: Path = Path("/"), now: Callable[[], float] = _boottime_s
    ) -> None:
        self._path = folder / "health.json"
        self._gate = gate
        self._root = root
        self._now = now
        self._alarms = alarms.read(root)
        self._record = Record(self._boot_id())

    def begin(self) -> None:
        """Begin, once signals are heard: an end by one before would be taken for a crash."""
        boot_id = self._boot_id()
        record, now_s = state.load(self._path, Record) or Record(boot_id), self._now()
        if record.boot_id != boot_id:  # a machine that went down is no crash of ours
            record = Record(boot_id, tripped=record.tripped)
        crashed = (now_s,) if record.running else ()
        crashes_s = tuple(at_s for at_s in record.crashes_s if now_s - at_s < WITHIN_S) + crashed
        self._record = replace(record, crashes_s=crashes_s, running=True)
        if len(crashes_s) >= CRASHES:
            self._trip(f"{len(crashes_s)} crashes within {WITHIN_S / 60:g} minutes")
        elif record.tripped:
            self._gate.close(WHO, record.tripped)
        self._keep(self._record)

    def turn(self) -> None:
        """Look whether the kernel warned or oopsed since the start, or since told to resume."""
        found, before = alarms.read(self._root), self._alarms
        self._alarms = found
        if found.oopses > before.oopses:
            self._trip("the kernel oopsed")
        elif found.warnings > before.warnings:
            self._trip("the kernel warned: see its log")

    def resume(self) -> None:
        """Forget what was wrong."""
        self._keep(replace(self._record, crashes_s=(), tripped=""))
        self._gate.open(WHO)

    def end(self) -> None:
        """End in order."""
        self._keep(replace(self._record, running=False))

    def _boot_id(self) -> str:
        return (self._root / "proc/sys/kernel/random/boot_id").read_text().strip()

    def _trip(self, why: str) -> None:
        if not self._record.tripped:
            structlog.get_logger().error("not well", why=why, note=_UNTIL)
            self._keep(replace(self._record, tripped=why))
        self._gate.close(WHO, why)

    def _keep(self, record: Record) -> None:
        self._record = record
        try:
            state.save(self._path, record)
        except OSError as error:
            structlog.get_logger().warning("state not kept", file=str(self._path), why=str(error))
