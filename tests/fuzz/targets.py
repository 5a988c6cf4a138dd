# SPDX-License-Identifier: Apache-2.0

"""What the daemon reads that others may have written: whatever the bytes are, it answers or says no in its own words."""

import asyncio
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from structlog.testing import capture_logs

from numad_py import policies, profile
from numad_py.act.affinity_journal import Affinities
from numad_py.daemon import control, control_socket, said_labels, state
from numad_py.daemon.config import Config
from numad_py.daemon.health import Record
from numad_py.daemon.log import TickLog
from numad_py.daemon.others.answer import Refused, decoded, plan_of
from numad_py.guard import Guard, Limits
from numad_py.machines import MachineFile
from numad_py.model import Ending, Outcome, Plan, Tick
from numad_py.roles import Policy
from numad_py.trace import TraceError, read
from tests.builders import MIB, process, regions, snapshot
from tests.unit.daemon.test_control import USER, Machine

CORPUS = Path(__file__).parent / "corpus"
ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")
SEEN = snapshot(processes=[process(100, regions=regions({0: 300, 1: 100}, {0: 50})), process(200)])
KEPT = (said_labels.Kept, Record, Affinities)


@dataclass(frozen=True)
class _Wishing(Policy):
    """Wishes the same at every turn."""

    plan: Plan

    def decide(self, snapshot):
        return self.plan


class Targets:
    """Each takes any bytes, and raises only where the daemon would have died of them; ``folder`` is for what it needs."""

    def __init__(self, folder):
        self._folder = folder
        machine = Machine(folder)
        self._registries = [control.registry(uid, machine.office) for uid in (0, USER)]

    def socket(self, data):
        """Send one message as root and as a user: it is answered whole, or is garbage."""
        for registry in self._registries:
            with suppress(control_socket.Garbage):
                answer = asyncio.run(control_socket.answer(registry, data))
                assert answer is None or answer.endswith(b"\0")

    def trace(self, data):
        """Read it as a trace, strictly and leniently, however it is packed."""
        for ending in ENDINGS:
            path = self._written(f"trace{ending}", data)
            for lenient in (False, True):
                with suppress(TraceError):
                    _, ticks = read(path, lenient=lenient)
                    for _ in ticks:
                        pass

    def profile(self, data):
        """Read it as a profile, as the configuration and as a machine file."""
        path = self._written("profile.yaml", data)
        with suppress(profile.ProfileError):
            profile.read(path, policies.PARAMETERS, Limits)
        for kind in (Config, MachineFile):
            with suppress(profile.ProfileError):
                profile.from_mapping(kind, profile.load_yaml(path), str(path))

    def answer(self, data):
        """Read it as what a policy of others answers: a plan that the guard takes and the log tells, or refused."""
        for line in data.split(b"\n"):
            with suppress(Refused):
                plan = plan_of(decoded(line), SEEN)
                Guard(_Wishing(plan), Limits()).decide(SEEN)
                done = Outcome(Ending.DONE, MIB, moved_threads=1)
                tick = Tick(SEEN, plan, (done,) * len(plan.moves), (done,) * len(plan.task_moves))
                with capture_logs():
                    TickLog().tick(tick)

    def state(self, data):
        """Read it as what an earlier daemon kept: a value of that kind, or put aside."""
        for kind in KEPT:
            path = self._written("kept.json", data)
            kept = state.load(path, kind)
            assert isinstance(kept, kind) or path.with_suffix(".broken").read_bytes() == data

    def _written(self, name, data):
        path = self._folder / name
        path.write_bytes(data)
        return path


NAMES = ("answer", "profile", "socket", "state", "trace")


def opened():
    """Give the targets, in a folder of their own."""
    return Targets(Path(tempfile.mkdtemp(prefix="numad-fuzz-")))


def corpus(name):
    """Give the kept inputs of a target, in order of their names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
