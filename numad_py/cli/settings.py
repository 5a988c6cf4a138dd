# SPDX-License-Identifier: Apache-2.0

"""What ``--set`` may change: figures of the cost model, of profiles by their names, and of scenarios."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from numad_py.cli import outsiders
from numad_py.guard import Limits
from numad_py.prices import MEMORY_SHARE
from numad_py.profile import Profile, ProfileError, from_mapping
from numad_py.sim import cost, figures, script

_GUARD = "guard."


@dataclass(frozen=True)
class CostModel:
    """Figures of `cost.Prices` that no machine file needs to know."""

    call_ns: int = cost.CALL_NS
    memory_share: float = MEMORY_SHARE
    parallel_accesses: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.memory_share <= 1:
            raise ValueError("memory_share: a share is between 0 and 1")
        if self.call_ns < 0 or self.parallel_accesses <= 0:
            raise ValueError("call_ns: must not be negative, and parallel_accesses is more than 0")


COST_KEYS = tuple(each.name for each in fields(CostModel))
SCENARIO_KEYS = ("machine", "jobs", "length_s", "every_s", "seed")


def check(keys: Iterable[str], policies: Sequence[str], *, scenario: bool) -> None:
    """Raise ProfileError for a key that neither the cost model, nor a policy, nor a scenario has."""
    allowed = [*COST_KEYS, *(key for name in policies for key in _keys(outsiders.load(name)))]
    for key in keys:
        if key in allowed or (scenario and _of_scenario(key)):
            continue
        also = f", and of the scenario {', '.join(SCENARIO_KEYS)}, as in machine.cpus.0" if scenario else ""
        raise ProfileError(f"found no {key!r}; there is {', '.join(allowed)}{also}")


def of_cost(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is set of the cost model; raise ProfileError where that is not allowed."""
    chosen = {key: settings[key] for key in COST_KEYS if key in settings}
    return {key: getattr(from_mapping(CostModel, chosen, "--set"), key) for key in chosen}


def priced(prices: cost.Prices, settings: Mapping[str, Any]) -> cost.Prices:
    """Give prices with what is set of them, which then is known: it has no range any more."""
    known = of_cost(settings)
    return replace(prices, **known, ends=tuple(replace(each, **known) for each in prices.ends))


def of_demand(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is set of the cost model and of a scenario: all but policies."""
    return {key: value for key, value in settings.items() if key in COST_KEYS or _of_scenario(key)}


def changed(profile: Profile[Any, Limits], settings: Mapping[str, Any]) -> Profile[Any, Limits]:
    """Give a profile with what is set of it; raise ProfileError where that is not allowed."""
    guard, own = asdict(profile.guard), _own(profile)
    parameters = {key: value for key, value in asdict(profile.parameters).items() if key in own}
    for key in settings.keys() & {*_keys(profile)}:
        parameter = key.removeprefix(f"{profile.name}.")
        into = guard if parameter.startswith(_GUARD) else parameters
        into[parameter.removeprefix(_GUARD)] = settings[key]
    where = f"--set {profile.name}"
    return replace(
        profile,
        parameters=from_mapping(type(profile.parameters), parameters, where),
        guard=from_mapping(Limits, guard, f"{where}.guard"),
    )


def scripted(mapping: Mapping[str, Any], settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Give a scenario's mapping with what is set of it; raise ProfileError where that makes no sense."""
    for key, value in settings.items():
        if _of_scenario(key):
            mapping = figures.with_value(mapping, key, value, where)
    script.scripted(mapping, where)
    return dict(mapping)


def _of_scenario(key: str) -> bool:
    return key.split(".", maxsplit=1)[0] in SCENARIO_KEYS


def _keys(profile: Profile[Any, Limits]) -> list[str]:
    guard = [_GUARD + each.name for each in fields(Limits)]
    return [f"{profile.name}.{key}" for key in (*_own(profile), *guard)]


def _own(profile: Profile[Any, Limits]) -> list[str]:
    """Name the parameters; a policy of somebody's own may remember things in other fields."""
    return [each.name for each in fields(profile.parameters) if each.init]
