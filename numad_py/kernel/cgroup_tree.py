# SPDX-License-Identifier: Apache-2.0

"""Know which cgroups there are, without walking the tree again.

Problem: a walk takes 10 µs a cgroup, a host can have thousands, and seldom one comes or goes.
Primitive: inotify tells of each that was made, removed, labelled or given to another owner.
Application: every cgroup is watched before it is looked at, so that nothing is missed in between;
what was told of is looked at anew, and all of it only where events were lost.
"""

import contextlib
import errno
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Final

from inotify_simple import INotify, flags

from numad_py.kernel import cgroup
from numad_py.kernel.cgroup import Directory

# A cgroup of v2 cannot be renamed: kernel/cgroup/cgroup.c has that for v1 alone.
_CAME_OR_WENT: Final = flags.CREATE | flags.DELETE
_WATCHED: Final = _CAME_OR_WENT | flags.ATTRIB | flags.ONLYDIR | flags.DONT_FOLLOW
_LOST: Final = flags.Q_OVERFLOW | flags.UNMOUNT
_REMEDIES: Final = {
    errno.ENOSPC: "; raise fs.inotify.max_user_watches",
    errno.EMFILE: "; raise fs.inotify.max_user_instances",
}


class Tree:
    """The cgroups below a mount, as they were at the last refresh.

    Where inotify cannot be had, ``problem`` says why, and every refresh walks the tree.
    """

    def __init__(self, mount: Path) -> None:
        self.problem = ""
        self._is_whole = False
        self._mount = mount
        self._inotify: INotify | None = None
        self._closing: weakref.finalize[[], Tree] | None = None
        self._directories: dict[str, Directory] = {}  # parents first
        self._path_of: dict[int, str] = {}  # by watch
        self._watch_of: dict[str, int] = {}  # by path
        self._begin()
        self._is_whole = True

    @property
    def directories(self) -> Collection[Directory]:
        """All of them, parents before their children."""
        return self._directories.values()

    def refresh(self) -> bool:
        """Take in what came, went or changed since the last time; say whether anything can have.

        After an OSError all is looked at anew the next time.
        """
        was_whole, self._is_whole = self._is_whole, False
        if not was_whole:
            self._begin()
        changed = not was_whole or self._take_in()
        self._is_whole = True
        return changed

    def _take_in(self) -> bool:
        inotify = self._inotify
        if inotify is None:
            self._directories = {}
            self._walk("/")
            return True
        came_or_went, changed = set[str](), set[str]()
        for event in inotify.read(timeout=0):
            if event.mask & _LOST:
                self._begin()
                return True
            path = self._path_of.get(event.wd)
            if path is not None and event.mask & flags.ISDIR:
                (came_or_went if event.mask & _CAME_OR_WENT else changed).add(_below(path, event.name))
        self._forget(came_or_went)  # each of its own: none goes that has any below it
        for path in sorted(came_or_went | changed):
            self._look_again(path)
        return bool(came_or_went or changed)

    def close(self) -> None:
        """Stop watching."""
        if self._closing:
            self._closing()
        self._inotify = None

    def _begin(self) -> None:
        self.close()
        self._directories, self._path_of, self._watch_of = {}, {}, {}
        try:
            self._inotify = INotify()
        except OSError as error:
            self._give_up(error)
        else:
            self._closing = weakref.finalize(self, self._inotify.close)
        self._walk("/")

    def _give_up(self, error: OSError) -> None:
        self.close()
        remedy = _REMEDIES.get(error.errno or 0, "")
        self.problem = f"inotify: {error.strerror}: all cgroups are walked to find new ones{remedy}"

    def _walk(self, top: str) -> None:
        for directory in cgroup.walk(self._mount, top, self._watch):
            self._directories[directory.path] = directory

    def _watch(self, path: str) -> None:
        if self._inotify is None:
            return
        try:
            watch = self._inotify.add_watch(f"{self._mount}{path}", _WATCHED)
        except OSError as error:
            if error.errno in {*cgroup.NOT_FOUND, errno.ENOTDIR}:
                raise
            self._give_up(error)
            return
        self._path_of[watch], self._watch_of[path] = path, watch

    def _look_again(self, path: str) -> None:
        """Look at one that is known, and walk down from one that is not, unless it is hidden with its parent."""
        if path not in self._directories:
            if (path.rpartition("/")[0] or "/") in self._directories:
                self._walk(path)
            return
        try:
            self._directories[path], _ = cgroup.look(self._mount, path)
        except OSError as error:
            if error.errno not in cgroup.NOT_FOUND:
                raise
            hidden = {each for each in self._directories if f"{each}/".startswith(f"{path}/")}
            self._forget(hidden)

    def _forget(self, gone: set[str]) -> None:
        for path in gone & self._watch_of.keys():
            watch = self._watch_of.pop(path)
            del self._path_of[watch]
            # kernfs does not end the watches of a directory that goes, so that they would pile up.
            if self._inotify is not None:
                with contextlib.suppress(OSError):
                    self._inotify.rm_watch(watch)
        for path in gone & self._directories.keys():
            del self._directories[path]


def _below(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}" if name else path
