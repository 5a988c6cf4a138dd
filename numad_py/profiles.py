# SPDX-License-Identifier: Apache-2.0

"""Find profiles by name, and make of one the guarded policy that it describes."""

import sys
from pathlib import Path
from typing import Any, Final

from numad_py import policies, profile
from numad_py.guard import Guard, Limits
from numad_py.profile import Profile, ProfileError
from numad_py.roles import Policy

PLACES: Final = (
    Path("/etc/numad-py/policies"),
    Path(sys.prefix) / "share/numad-py/policies",
    Path(__file__).parents[1] / "policies",
)
"""Where a name is looked for, in this order: the operator's, the installed, the clone's."""


def load(name_or_path: str) -> Profile[Any, Limits]:
    """Read a profile by its name, or by a path with a slash or the ending .yaml.

    Raises ProfileError, also where there is none of that name.
    """
    path = Path(name_or_path)
    if "/" not in name_or_path and path.suffix != ".yaml":
        path = _find(name_or_path)
    return profile.read(path, policies.PARAMETERS, Limits)


def build(chosen: Profile[Any, Limits]) -> Policy:
    """Make the policy of a profile, with the guard around it."""
    return Guard(policies.BUILT_IN[chosen.policy](chosen.parameters), chosen.guard)


def names() -> tuple[str, ...]:
    """Give the names that ``load`` knows."""
    return tuple(sorted({path.stem for place in PLACES for path in place.glob("*.yaml")}))


def _find(name: str) -> Path:
    for place in PLACES:
        path = place / f"{name}.yaml"
        if path.is_file():
            return path
    raise ProfileError(f"there is no profile {name!r}; there is {', '.join(names()) or 'none at all'}")
