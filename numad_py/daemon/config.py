# SPDX-License-Identifier: Apache-2.0

"""Read the daemon's configuration, and remember where each word of it comes from."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from numad_py import machines, profile, profiles
from numad_py.daemon import trusted
from numad_py.profile import ProfileError
from numad_py.sense import opt_in
from numad_py.sense.sensor import Costs

DEFAULT_PATH: Final = Path("/etc/numad-py/numad.yaml")
AT_START: Final = frozenset({"metrics_period_s", "metrics_textfile", "trace", "trace_ring_mb"})
"""The keys that are read at the start alone; all others take effect at a reload."""
SHORTEST_PERIOD_S: Final = 0.1
LONGEST_PERIOD_S: Final = 3600.0

_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*")  # what YAML reads as text without quotes


class Mode(StrEnum):
    """Whether plans are carried out."""

    OBSERVE = "observe"
    ACT = "act"


@dataclass(frozen=True)
class Config:
    """What the operator says. ``profiles`` are the names that a label may bear, ``user_profiles`` that of a user.

    ``labels`` is by pattern of cgroup paths, and ``deny`` are patterns of those that nobody may opt in.
    """

    mode: Mode = Mode.OBSERVE
    period_s: float = 1.0
    profiles: tuple[str, ...] = ("default", "hold", "interleave")
    user_profiles: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    deny: tuple[str, ...] = ()
    trace: str | None = None
    trace_ring_mb: int | None = None
    budget_core_share: float = Costs.budget_core_share
    longest_walk_ms: float = Costs.longest_walk_ms
    first_walk_ms: float = Costs.first_walk_ms
    assume_default_mempolicy: bool = Costs.assume_default_mempolicy
    investigate: bool = Costs.investigate
    machine: str | None = None
    metrics_textfile: str | None = "metrics.prom"
    metrics_period_s: float = 15.0

    @property
    def costs(self) -> Costs:
        """What looking may cost."""
        return Costs(
            self.budget_core_share,
            self.longest_walk_ms,
            self.first_walk_ms,
            self.assume_default_mempolicy,
            self.investigate,
        )

    @cached_property
    def rules(self) -> opt_in.Rules:
        """What decides about labels."""
        return opt_in.rules(
            deny=self.deny, labels=self.labels, profiles=self.profiles, user_profiles=self.user_profiles
        )

    def __post_init__(self) -> None:
        _ = self.costs, self.rules  # refuse what makes no sense
        if not SHORTEST_PERIOD_S <= self.period_s <= LONGEST_PERIOD_S:
            raise ValueError(f"period_s: allowed is {SHORTEST_PERIOD_S} to {LONGEST_PERIOD_S}")
        if self.trace_ring_mb is not None and self.trace_ring_mb < 1:
            raise ValueError("trace_ring_mb: at least 1")
        if self.metrics_textfile is not None and not self.metrics_textfile.endswith(".prom"):
            raise ValueError("metrics_textfile: node_exporter reads only names that end in .prom")
        if not 1 <= self.metrics_period_s <= LONGEST_PERIOD_S:
            raise ValueError(f"metrics_period_s: allowed is 1 to {LONGEST_PERIOD_S}")


@dataclass(frozen=True)
class Origins:
    """A configuration, and for each of its keys who said so last."""

    config: Config
    of: Mapping[str, str]

    def lines(self) -> list[str]:
        """Give a line per key: the effective value and its origin."""
        values = {each.name: getattr(self.config, each.name) for each in fields(Config)}
        shown = {key: _yaml(value) for key, value in values.items()}
        return [f"{f'{key}: {value}':<48} # {self.of.get(key, 'default')}" for key, value in shown.items()]


def read(path: Path | None, command_line: Mapping[str, Any]) -> Origins:
    """Read the file, then conf.d/*.yaml beside it in order of name, then the command line.

    Without a path the packaged one is read, if it is there. Raises ProfileError.
    """
    try:
        return _read(path, command_line)
    except OSError as error:  # of a folder on the way, which may not be searched
        raise ProfileError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _read(path: Path | None, command_line: Mapping[str, Any]) -> Origins:
    words: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source in _files(path):
        trusted.check(source)
        said = profile.load_yaml(source)
        profile.from_mapping(Config, said, str(source))  # refuse what this very file says wrong
        words |= said
        origin |= dict.fromkeys(said, str(source))
    words |= command_line
    origin |= dict.fromkeys(command_line, "command line")
    origins = Origins(profile.from_mapping(Config, words, "command line"), origin)
    _refuse_what_does_not_fit(origins)
    return origins


def _refuse_what_does_not_fit(origins: Origins) -> None:
    """Raise ProfileError for what no single file can be blamed for."""
    config = origins.config
    if config.trace_ring_mb is not None and config.trace is None:
        where = origins.of["trace_ring_mb"]
        raise ProfileError(
            f"{where}: trace_ring_mb: there is no trace to keep the last of; name one, --trace"
        )
    where = origins.of.get("trace", "command line")
    if config.trace is not None and config.trace_ring_mb is None and where != "command line":
        # Nothing is overwritten, so that a service with one file would not come back after its first stop.
        raise ProfileError(f"{where}: trace: give trace_ring_mb, too; only --trace may name a single file")
    if config.machine is not None:
        trusted.check(Path(config.machine))
        machines.read(Path(config.machine))  # names the file, if that is wrong
    where = f"{origins.of.get('profiles', 'default')}: profiles"
    for name in config.profiles:
        if name not in profiles.names():
            raise ProfileError(f"{where}: found {name!r}, allowed is {', '.join(profiles.names()) or 'none'}")
        if (found := profiles.find(name)).parent == profiles.PLACES[0]:  # others are as safe as the code is
            trusted.check(found)
        profiles.load(name)  # names its own file, if that is wrong
    _refuse_what_is_not_among_profiles(origins)


def _refuse_what_is_not_among_profiles(origins: Origins) -> None:
    config = origins.config
    named = [("user_profiles", "", name) for name in config.user_profiles]
    named += [("labels", f"{pattern}: ", name) for pattern, name in config.labels.items()]
    for key, pattern, name in named:
        if name not in config.profiles:
            allowed = f"one of profiles: {', '.join(config.profiles) or 'none'}"
            raise ProfileError(f"{origins.of[key]}: {key}: {pattern}found {name!r}, allowed is {allowed}")


def _files(path: Path | None) -> list[Path]:
    main = path or DEFAULT_PATH
    if path is None and not _is_there(main):
        return []
    conf_d = main.parent / "conf.d"
    beside = conf_d.iterdir() if _is_there(conf_d) else ()
    return [main, *sorted(each for each in beside if each.suffix == ".yaml")]


def _is_there(path: Path) -> bool:
    """Say whether it is there; where that cannot be told, Path.exists() may say no."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _yaml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_yaml(key)}: {_yaml(each)}' for key, each in value.items())}}}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        return json.dumps(value)
    return "null" if value is None else str(value)
