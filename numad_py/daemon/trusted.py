# SPDX-License-Identifier: Apache-2.0

"""Refuse files that somebody else could have written: what they say is done with rights over everybody.

Problem: a path is root's only if every folder and link that leads to it is; else what was looked at
is not what is read.
Primitive: the trail of a path: each folder, link and file that opening it passes through.
Application: all of the trail belongs to the superuser, and nobody else may write there. A folder that everybody
may write, with the sticky bit as /tmp has it, is borne: what is root's in it can be neither removed nor renamed.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from numad_py import profiles
from numad_py.kernel import capabilities
from numad_py.policies.trees import ModelError, Trees
from numad_py.profile import ProfileError

_MOST_LINKS: Final = 40  # MAXSYMLINKS of include/linux/namei.h
_OTHERS_MAY_WRITE: Final = (
    stat.S_IWGRP | stat.S_IWOTH
)  # the group's bit is the mask of an ACL, if there is one


def check(path: Path, *, owners: tuple[int, ...] = (0,)) -> None:
    """Raise ProfileError for a file that somebody other than the owners could have written, where we have rights.

    Without rights over other users' processes it is the user's own daemon, and files.
    """
    if not capabilities.effective():
        return
    try:
        for each in _trail(path):
            if why := _against(each, owners):
                via = "" if each == path else f"{each} "
                raise ProfileError(f"{path}: {via}{why}; whoever can write it decides what the daemon does")
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from None


def model(name: str) -> Trees:
    """Read a trained model that only the owner could have written; raise ModelError."""
    path = profiles.find_model(name)
    try:
        if path.parent not in profiles.PLACES[1:]:  # those are as safe as the code is
            check(path)
    except ProfileError as error:
        raise ModelError(str(error)) from None
    return profiles.read_model(str(path))


def _against(path: Path, owners: tuple[int, ...]) -> str:
    status = path.lstat()
    if status.st_uid not in owners:
        return f"belongs to uid {status.st_uid}, allowed is root"
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if stat.S_ISLNK(status.st_mode) or sticky or not status.st_mode & _OTHERS_MAY_WRITE:
        return ""
    return f"may be written by others (mode {stat.S_IMODE(status.st_mode):04o}), allowed is root alone"


def _trail(path: Path) -> Iterator[Path]:
    """Give every folder, link and file that opening a path passes through, from the top."""
    at, links = Path("/"), 0
    left = list(reversed((Path.cwd() / path).parts))
    while left:
        part = left.pop()
        at = at.parent if part == ".." else at / part  # at / "/" is "/"
        yield at
        if at.is_symlink():
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            left += reversed(at.readlink().parts)
            at = at.parent
