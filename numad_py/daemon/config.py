# SPDX-License-Identifier: Apache-2.0

"""Read the daemon's configuration, and remember where each word of it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from numad_py import machines, profile, profiles
from numad_py.profile import ProfileError
from numad_py.sense.sensor import Costs

DEFAULT_PATH: Final = Path("/etc/numad-py/numad.yaml")
SHORTEST_PERIOD_S: Final = 0.1
LONGEST_PERIOD_S: Final = 3600.0


class Mode(StrEnum):
    """Whether plans are carried out."""

    OBSERVE = "observe"
    ACT = "act"


@dataclass(frozen=True)
class Config:
    """What the operator says. ``profiles`` are the names that a label may bear."""

    mode: Mode = Mode.OBSERVE
    period_s: float = 1.0
    profiles: tuple[str, ...] = ("default", "hold", "interleave")
    trace: str | None = None
    trace_ring_mb: int | None = None
    budget_core_share: float = Costs.budget_core_share
    longest_walk_ms: float = Costs.longest_walk_ms
    first_walk_ms: float = Costs.first_walk_ms
    assume_default_mempolicy: bool = Costs.assume_default_mempolicy
    investigate: bool = Costs.investigate
    machine: str | None = None

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

    def __post_init__(self) -> None:
        _ = self.costs  # refuses what makes no sense
        if not SHORTEST_PERIOD_S <= self.period_s <= LONGEST_PERIOD_S:
            raise ValueError(f"period_s: allowed is {SHORTEST_PERIOD_S} to {LONGEST_PERIOD_S}")
        if self.trace_ring_mb is not None and self.trace_ring_mb < 1:
            raise ValueError("trace_ring_mb: at least 1")


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
    words: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source in _files(path):
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
    if config.machine is not None:
        machines.read(Path(config.machine))  # names the file, if that is wrong
    where = f"{origins.of.get('profiles', 'default')}: profiles"
    for name in config.profiles:
        if name not in profiles.names():
            raise ProfileError(f"{where}: found {name!r}, allowed is {', '.join(profiles.names()) or 'none'}")
        profiles.load(name)  # names its own file, if that is wrong


def _files(path: Path | None) -> list[Path]:
    main = path or DEFAULT_PATH
    if path is None and not main.exists():
        return []
    return [main, *sorted((main.parent / "conf.d").glob("*.yaml"))]


def _yaml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
