# SPDX-License-Identifier: Apache-2.0

"""Take DAMON when nobody else has it, and leave nothing of ours behind, however we end.

Problem: DAMON's one set of files belongs to whoever writes to it, and its
kernel thread goes on when that process is killed.
Primitive: a lock that ends with its holder, and the identity that the kernel
gives to a kdamond's directory, which no other has until the next boot.
Application: a state file, locked while we live, says which kdamond is ours and
what it watches. Whoever gets the lock later finds there what a dead owner left,
and removes it if it is still that and nothing else.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed, damon

# An identity of fixed width, so that it is written over in one call, and the PIDs that are watched.
_STATE: Final = re.compile(rb"([0-9]{20})((?: [0-9]{1,10})*)\n")
_UNKNOWN: Final = 0
_WHOLE: Final = 1 << 20


class Claim:
    """DAMON while it is ours. ``state`` is below /run: a reboot must forget it, as it does what it tells of."""

    def __init__(self, state: Path, root: Path = Path("/")) -> None:
        self._state = state
        self._root = root
        self._file: int | None = None
        self._pids: tuple[int, ...] = ()
        self._identity = _UNKNOWN

    def take(self, pids: Sequence[int]) -> str:
        """Make a kdamond of our own, not yet set up; say why not where that cannot be."""
        try:
            return self._take(tuple(pids))
        except (OSError, Malformed) as error:
            with contextlib.suppress(OSError, Malformed):
                self.release()
            return f"DAMON cannot be used: {error}"

    def _take(self, pids: tuple[int, ...]) -> str:
        self._file = _lock(self._state)
        if self._file is None:
            return f"{self._state} is locked: another numad-py uses DAMON"
        _clean(self._file, self._root)
        if why := _taken(self._root):
            self._let_go()
            return why
        # Written before there is anything to find: a kdamond that is bare then is the one we were about to note.
        os.pwrite(self._file, b"%020d%b\n" % (_UNKNOWN, b"".join(b" %d" % pid for pid in pids)), 0)
        self._pids, self._identity = pids, damon.claim(self._root)
        os.pwrite(self._file, b"%020d" % self._identity, 0)
        return ""

    @property
    def holds(self) -> bool:
        """Whether what we set up is there, and nobody has changed it."""
        return self._file is not None and _is(self._identity, self._pids, self._root)

    def release(self) -> None:
        """Remove what is ours, if it still is. OSError where somebody is at it now: the state file still tells."""
        if self._file is None:
            return
        try:
            _clean(self._file, self._root)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None


def release_stale(state: Path, root: Path = Path("/")) -> bool:
    """Remove what an owner that is dead left set up; say whether there was any.

    Touches nothing while the owner lives, nor what others have set up or changed since.
    """
    if not state.exists():
        return False
    file = _lock(state)
    if file is None:
        return False
    try:
        return _clean(file, root)
    finally:
        os.close(file)


def _lock(state: Path) -> int | None:
    """Open and lock the state file; None while another holds it."""
    file = os.open(state, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _clean(file: int, root: Path) -> bool:
    """Remove what the state file tells of, if it is there, and empty the file."""
    told = _STATE.fullmatch(os.pread(file, _WHOLE, 0))
    ours = told is not None and _is(int(told[1]), tuple(map(int, told[2].split())), root)
    if ours:
        damon.release(root)
    os.ftruncate(file, 0)
    return ours


def _is(identity: int, pids: tuple[int, ...], root: Path) -> bool:
    """Say whether the kdamond that there is has this identity, and watches these and nothing else."""
    found, watched = damon.identity(root), damon.watched(root)
    if identity == _UNKNOWN:
        return found != 0 and not watched and damon.kdamond(root) is None
    as_told = all(pid in (0, told) for pid, told in zip(watched, pids, strict=False))
    return found == identity and len(watched) in (0, len(pids)) and as_told


def _taken(root: Path) -> str:
    """Say who has DAMON, or that there is none; nothing where it is free."""
    try:
        number = damon.kdamonds(root)
    except FileNotFoundError:
        return "this kernel has no DAMON with sysfs (CONFIG_DAMON_SYSFS)"
    if number:
        return f"DAMON has another user: kdamonds/nr_kdamonds is {number}"
    if modules := damon.modules(root):
        return f"DAMON has another user: {', '.join(modules)} is on"
    return ""
