# SPDX-License-Identifier: Apache-2.0

"""Policies of others, for the laboratory alone: a class of a module, an entry point, or a program in any language."""

import importlib
import importlib.util
import re
import shlex
import socket
import subprocess
import sys
import time
import traceback
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, is_dataclass, replace
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Final

from numad_py import profiles
from numad_py.daemon.others import answer
from numad_py.daemon.others.conversation import Conversation
from numad_py.guard import Guard, Limits
from numad_py.model import Plan, Snapshot, Tick
from numad_py.profile import Profile, ProfileError
from numad_py.roles import Policy
from numad_py.trace import Header

GROUP: Final = "numad_py.policies"
STDIO: Final = "stdio:"
PATIENCE_S: Final = 30.0  # with a program that is written just now
_CLASS: Final = re.compile(r"[\w.]+:\w+")


class PolicyError(ProfileError):
    """A policy of others cannot be had, or went wrong; one sentence says where and why."""


@dataclass(frozen=True)
class _NoParameters:
    """There is nothing to set."""


def is_one(name: str) -> bool:
    """Say whether a name means somebody's own code; that of a profile never does."""
    return name.startswith(STDIO) or bool(_CLASS.fullmatch(name)) or name in entry_points()


@cache
def entry_points() -> Mapping[str, str]:
    """Give what is installed, by name, as module:Class; what is called as a profile is that profile."""
    found = {each.name: each.value for each in metadata.entry_points(group=GROUP)}
    return {name: value for name, value in found.items() if name not in profiles.names()}


def load(name: str) -> Profile[Any, Limits]:
    """Give a profile by its name, or one that stands for somebody's own code, with the guard's usual limits.

    The parameters of a class are its own fields, where it is a dataclass. Raises PolicyError, and what
    ``profiles.load`` does.
    """
    if not is_one(name):
        return profiles.load(name)
    parameters: object = _NoParameters()
    if not name.startswith(STDIO) and is_dataclass((found := _Found(name)).kind):
        parameters = found.made()
    return Profile(name, name, parameters, Limits())


def build(chosen: Profile[Any, Limits], header: Header) -> Policy:
    """Make the policy anew, with the guard around it; a program is told the header."""
    if not is_one(chosen.name):
        return profiles.build(chosen)
    if chosen.name.startswith(STDIO):
        return Guard(_Program(chosen.name, header), chosen.guard)
    return Guard(_Spoken(_Found(chosen.name), chosen.parameters), chosen.guard)


class _Found:
    """A class that was found by its name; raises PolicyError where there is none, or it is no policy."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._file, _, attribute = entry_points().get(name, name).partition(":")
        self.kind: Any = self._imported(self._file, attribute)

    def _imported(self, module: str, attribute: str) -> type[Policy]:
        with self.blamed("importing it"):
            if str(Path.cwd()) not in sys.path:
                sys.path.insert(0, str(Path.cwd()))  # as python -m has it
            spec = _spec(module)
            if spec is None:
                raise PolicyError(f"{self._name}: there is no module {module!r}, in this folder or installed")
            self._file = spec.origin or module
            found = getattr(importlib.import_module(module), attribute, None)
        if found is None:
            raise PolicyError(f"{self._name}: {self._file} has no {attribute!r}")
        if not isinstance(found, type) or Policy not in found.__mro__:
            raise PolicyError(
                f"{self._name}: {self._file}: {attribute} is no class that extends numad_py.roles.Policy"
            )
        return found

    def made(self) -> Any:
        """Make one, with its own defaults."""
        with self.blamed("making it"):
            return self.kind()

    @contextmanager
    def blamed(self, doing: str) -> Iterator[None]:
        """Tell what it raises meanwhile in one sentence, with the line of its own file."""
        try:
            yield
        except PolicyError:
            raise
        except Exception as error:  # noqa: BLE001 - it is somebody's own code
            where = self._where(error)
            raise PolicyError(
                f"{self._name}: {where}: {doing} raised {type(error).__name__}: {error}"
            ) from None

    def blame(self, why: str) -> PolicyError:
        """Give the error for what it did wrong."""
        return PolicyError(f"{self._name}: {self._file}: {why}")

    def _where(self, error: Exception) -> str:
        if isinstance(error, SyntaxError):
            return f"{error.filename}, line {error.lineno}"
        own = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == self._file]
        return f"{self._file}, line {own[-1].lineno}" if own else self._file


def _spec(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except ModuleNotFoundError as error:
        if f"{module}.".startswith(f"{error.name}."):
            return None
        raise


class _Spoken(Policy):
    """A policy of somebody's own class, whose mistakes are told as such."""

    def __init__(self, found: _Found, parameters: Any) -> None:
        self._found = found
        with found.blamed("making it"):
            self._policy = replace(parameters) if is_dataclass(found.kind) else found.made()

    def decide(self, snapshot: Snapshot) -> Plan:
        with self._found.blamed("decide"):
            plan: object = self._policy.decide(snapshot)
        if not isinstance(plan, Plan):
            raise self._found.blame(f"decide gave {type(plan).__name__}, a Plan is needed")
        with self._found.blamed("reading its plan"):
            try:
                answer.check(plan, snapshot)
            except answer.Refused as error:
                raise self._found.blame(f"decide wished what cannot be: {error}") from None
            moves = (
                replace(move, limit_bytes=int(move.limit_bytes)) for move in plan.moves
            )  # numpy's is no JSON
            return replace(plan, moves=tuple(moves))

    def review(self, tick: Tick) -> None:
        with self._found.blamed("review"):
            self._policy.review(tick)


class _Program(Policy):
    """A policy that a program of its own is, which reads lines and answers lines."""

    def __init__(self, name: str, header: Header) -> None:
        self._name = name
        self._process, connection = _started(name)
        self._conversation = Conversation(connection, header, keyframe_every=1)
        weakref.finalize(self, _end, self._conversation, self._process)

    def decide(self, snapshot: Snapshot) -> Plan:
        try:
            return self._conversation.decide(snapshot, time.monotonic() + PATIENCE_S)
        except TimeoutError:
            why = f"it did not answer within {PATIENCE_S:g} s"
        except OSError as error:
            why = self._ended() or str(error)
        except answer.Refused as error:
            why = str(error)
        raise PolicyError(f"{self._name}: at {snapshot.time_s:g} s: {why}")

    def review(self, tick: Tick) -> None:
        self._conversation.review(tick)

    def _ended(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            return f"it ended, with status {self._process.wait(timeout=1)}"
        return ""


def _started(name: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a program, and give the other end of its standard input and output."""
    command = name.removeprefix(STDIO)
    if not command.strip():
        raise PolicyError(f"{name} names no command, as {STDIO}./mine does")
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            words, stdio = shlex.split(command), theirs.fileno()
            return subprocess.Popen(words, stdin=stdio, stdout=stdio), ours  # noqa: S603 - the user's own words
    except (OSError, ValueError) as error:  # there is no such program, or a quote is not closed
        ours.close()
        raise PolicyError(f"{name}: cannot be started: {error}") from None


def _end(conversation: Conversation, process: subprocess.Popen[bytes]) -> None:
    """Let the program find its input at an end, and wait for it; one that goes on is killed."""
    conversation.close()
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
