# SPDX-License-Identifier: Apache-2.0

"""What the daemon may be asked through its socket, and by whom.

Problem: requests come in a thread of their own, from anybody, while the loop turns.
Primitive: the gate, which any thread closes at once; values that the loop leaves whole; a queue of what
the loop is to do itself.
Application: each client has an interface of his own, which knows his uid: users see their own jobs, root all.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from asyncvarlink import TypedVarlinkErrorReply, VarlinkInterface, VarlinkInterfaceRegistry, varlinkmethod
from asyncvarlink.serviceinterface import VarlinkServiceInterface

from numad_py import __version__
from numad_py.act.gate import Gate
from numad_py.daemon import control_socket, explaining, whose
from numad_py.daemon.config import Config
from numad_py.daemon.explaining import Circumstances, Explained
from numad_py.daemon.pause import Pause
from numad_py.daemon.said_labels import KeptLabel, SaidLabels, TooMany
from numad_py.daemon.status import Facts, Ledger, Seen, Status
from numad_py.daemon.unseen import why_unseen
from numad_py.kernel import Malformed, ksm, proc_stat
from numad_py.kernel import cgroup as cgroups
from numad_py.model import Explanation, Job, Process, ProcessKey
from numad_py.sense import opt_in
from numad_py.sense.jobs import Jobs

INTERFACE: Final = "io.numad.Control"
PIDS: Final = 1 << 22  # include/linux/threads.h PID_MAX_LIMIT
PATIENCE_S: Final = 10.0  # for the turn under way to end


class NotPermitted(TypedVarlinkErrorReply, interface=INTERFACE):
    """The one who asks may not have that done."""

    class Parameters:
        """Why not, in a sentence."""

        why: str


class NoSuchJob(TypedVarlinkErrorReply, interface=INTERFACE):
    """There is no cgroup of that path, as /proc/PID/cgroup would have it."""

    class Parameters:
        """The path."""

        cgroup: str


class NotLookedAt(TypedVarlinkErrorReply, interface=INTERFACE):
    """There is no such process, or it is not looked at."""

    class Parameters:
        """Why not, and what to do about it, in a sentence."""

        why: str


class NotKept(TypedVarlinkErrorReply, interface=INTERFACE):
    """The state folder cannot be written."""

    class Parameters:
        """What holds all the same, and what the system said."""

        why: str


@dataclass(frozen=True)
class Office:
    """What clients see and change.

    The loop does at the end of a turn what ``resume``, ``restore`` and ``relabel`` ask for: take back what
    else stopped it, give threads back the CPUs that they had, and look at the labels anew. Between two turns it
    answers what ``explain`` asks its policies.
    """

    gate: Gate
    pause: Pause
    labels: SaidLabels
    ledger: Ledger
    jobs: Callable[[], Jobs]
    config: Callable[[], Config]
    resume: Callable[[], None]
    restore: Callable[[], None]
    relabel: Callable[[], None]
    explain: Callable[[ProcessKey], Future[Explanation | None]]
    mount: Path
    root: Path = Path("/")
    replaced: Callable[[], dict[str, str]] = dict


class Control(VarlinkInterface, name=INTERFACE):
    """Whether numad-py acts, and what it does for which job: users see their own jobs, root all."""

    errors = (NotPermitted, NoSuchJob, NotLookedAt, NotKept)

    def __init__(self, uid: int, office: Office) -> None:
        self._uid = uid
        self._office = office

    @varlinkmethod(return_parameter="status")
    def Status(self) -> Status:  # noqa: N802 - varlink's names of methods are capitalised
        """Tell how the daemon is, and what it did for the jobs that the caller may see."""
        office = self._office
        pids, said_by = office.jobs().pids, self._said_by()
        jobs = [
            job for job in office.ledger.jobs() if whose.may_see(self._uid, job, office.mount, office.root)
        ]
        facts = [
            Facts(
                pids.get(job.cgroup_id, ()),
                said_by.get(job.cgroup_id),
                whose.owner_uid(job, office.mount),
            )
            for job in jobs
        ]
        return office.ledger.told(
            zip(jobs, facts, strict=True),
            mode=str(office.config().mode),
            closed_by=office.gate.closed_by,
            paused=office.pause.paused,
            replaced=office.replaced(),
        )

    @varlinkmethod(return_parameter="explained")
    async def Explain(self, *, pid: int) -> Explained:  # noqa: N802
        """Tell why the memory of a process is where it is: its user, whose its job is, and root."""
        *_, process = self._looked_at(pid)
        try:
            async with asyncio.timeout(PATIENCE_S):
                explanation = await asyncio.wrap_future(self._office.explain(process.key))
        except TimeoutError:
            raise NotLookedAt(why="the turn under way takes long: ask again") from None
        seen, job, process = self._looked_at(pid)  # anew: a turn may have ended meanwhile
        around = Circumstances(
            now_s=time.monotonic(),
            period_s=self._office.config().period_s,
            lately=seen.lately.get(process.key, ()),
            labelled_by=self._said_by().get(job.cgroup_id),
            replaced=self._office.replaced().get(job.profile),
            closed_by=self._office.gate.closed_by,
            rhythm=self._office.jobs().reported.rhythm(pid),
            merged_bytes=(merged := ksm.merged_pages(pid)) and merged * seen.snapshot.topology.page_bytes,
        )
        return explaining.explained(seen.snapshot, job, process, explanation, around)

    @varlinkmethod
    def Pause(self, *, restore: bool = False) -> None:  # noqa: N802
        """Stop all acting at once, until Resume, whatever restarts in between. For root alone.

        With restore, threads are given back the CPUs that they had, in a turn that begins at once.
        """
        self._root_alone()
        try:
            self._office.pause.begin(self._uid)
        except OSError as error:
            raise NotKept(why=f"it is paused, but until a restart alone: {error}") from None
        finally:
            if restore:
                self._office.restore()
            structlog.get_logger().warning("paused", uid=self._uid, restore=restore)

    @varlinkmethod
    def Resume(self) -> None:  # noqa: N802
        """Act again, as the configuration says, also where crashes or the kernel's alarms had stopped it. For root alone."""
        self._root_alone()
        try:
            self._office.pause.end()
        except OSError as error:
            raise NotKept(why=f"it stays paused: {error}") from None
        self._office.resume()
        structlog.get_logger().warning("resumed", uid=self._uid)

    @varlinkmethod
    def SetLabel(self, *, cgroup: str, profile: str | None) -> None:  # noqa: N802
        """Give a cgroup a profile, or off; with null, forget what was said of it here.

        For root, and for a user to whom every process in it and below it belongs.
        """
        path, cgroup_id = self._found(cgroup)
        if why := self._refusal(path, cgroup_id, profile):
            raise NotPermitted(why=why)
        labels = self._office.labels
        try:
            if profile is None:
                labels.unsay(cgroup_id, self._uid)
            elif not labels.say(KeptLabel(path, cgroup_id, self._uid, profile)):
                return
        except TooMany as error:
            raise NotPermitted(why=str(error)) from None
        except OSError as error:
            raise NotKept(why=f"the label is not taken: {error}") from None
        self._office.relabel()
        structlog.get_logger().info("labelled", uid=self._uid, job=path, policy=profile)

    @varlinkmethod(return_parameter="labels")
    def Labels(self) -> list[KeptLabel]:  # noqa: N802
        """Tell which labels were said here: to a user their own, to root all."""
        return [each for each in self._office.labels.all if self._uid in (opt_in.ROOT, each.uid)]

    def _looked_at(self, pid: int) -> tuple[Seen, Job, Process]:
        """Give the last look with a process and its job; raises NotPermitted where it is another's, and NotLookedAt."""
        if not 0 < pid <= PIDS:
            raise NotLookedAt(why="no process has such a number")
        office, seen = self._office, self._office.ledger.seen
        found = explaining.find(seen.snapshot, pid) if seen else None
        try:
            own = whose.owns(self._uid, pid, office.root)
            if not own and not (found and whose.may_see(self._uid, found[0], office.mount, office.root)):
                raise NotPermitted(why=f"process {pid} is not yours, nor is its job")
            if seen and found and found[1].key.start_ticks == proc_stat.read(pid, office.root).start_ticks:
                return seen, *found
            config = office.config()
            profiles = config.profiles if self._uid == opt_in.ROOT else config.user_profiles
            why = why_unseen(pid, office.jobs(), seen.snapshot if seen else None, profiles, office.root)
        except (FileNotFoundError, ProcessLookupError):
            why = f"there is no process {pid}"
        except (OSError, Malformed) as error:
            why = f"process {pid} cannot be looked at: {error}"
        raise NotLookedAt(why=explaining.text(why))

    def _said_by(self) -> dict[int, str]:
        """Give who labelled each job."""
        return {word.cgroup_id: word.said_by for word in self._office.jobs().labels.words if not word.why}

    def _found(self, path: str) -> tuple[str, int]:
        """Give the path of a cgroup within the mount, without links or dots, and its id; raises NoSuchJob."""
        mount = os.path.realpath(self._office.mount)
        try:
            path.encode()  # what is not UTF-8 could not be kept
            real = os.path.realpath(f"{mount}/{path}", strict=True)
            if path and real == f"{mount}{path}" and Path(real).is_dir():
                return path, cgroups.cgroup_id(Path(real))
        except (OSError, ValueError):  # UnicodeEncodeError is one, and so is that no path has a NUL
            pass
        raise NoSuchJob(cgroup=path)

    def _refusal(self, path: str, cgroup_id: int, profile: str | None) -> str:
        """Say why this user may not label this cgroup so; nothing where they may."""
        office, uid = self._office, self._uid
        said = office.labels.by_cgroup.get(cgroup_id)
        if uid == opt_in.ROOT:
            return opt_in.refusal(uid, profile, (), office.config().rules) if profile is not None else ""
        if uid == whose.NOBODY:
            return f"uid {uid} may be anybody"
        if said and said.uid == opt_in.ROOT:
            return "root labelled it, and root's word is stronger"
        if profile is None:
            return "" if said and said.uid == uid else "you have not labelled it here"
        try:
            owners = whose.owners(office.mount / path[1:], office.root, but=uid)
        except (OSError, Malformed) as error:
            return f"it cannot be told whose its processes are: {error}"
        return opt_in.refusal(uid, profile, [owners], office.config().rules)

    def _root_alone(self) -> None:
        if self._uid != opt_in.ROOT:
            raise NotPermitted(why=f"this is for root alone, and you are uid {self._uid}")


def registry(uid: int, office: Office) -> VarlinkInterfaceRegistry:
    """Give what a client of this uid may call: our interface, and the one that describes it."""
    interfaces = VarlinkInterfaceRegistry()
    interfaces.register_interface(Control(uid, office))
    interfaces.register_interface(
        VarlinkServiceInterface("numad-py", "numad-py", __version__, "man:numad-py(8)", interfaces)
    )
    return interfaces


@contextmanager
def served(office: Office, folder: Path) -> Iterator[None]:
    """Answer clients at ``folder``/control meanwhile."""
    with control_socket.Server(control_socket.listening(folder), lambda uid: registry(uid, office)):
        yield
