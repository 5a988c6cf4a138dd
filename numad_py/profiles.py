# SPDX-License-Identifier: Apache-2.0

"""Find profiles by name, and make of one the guarded policy that it describes."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from numad_py import policies, profile
from numad_py.guard import Guard, Limits
from numad_py.policies.features import NAMES
from numad_py.policies.learned import Learned, LearnedParameters
from numad_py.policies.trees import ModelError, Trees
from numad_py.profile import Profile, ProfileError
from numad_py.roles import Policy

PLACES: Final = (
    Path("/etc/numad-py/policies"),
    Path(sys.prefix) / "share/numad-py/policies",
    Path(__file__).parents[1] / "policies",
)
"""Where a name is looked for, in this order: the operator's, the installed, the clone's."""


LONGEST_DEADLINE_MS: Final = 1000  # the loop waits meanwhile
EXTERNAL: Final = "external"
LEARNED: Final = "learned"


@dataclass(frozen=True)
class ExternalParameters:
    """Where another's policy listens, how long a turn waits for it, and what stands in when it does not answer."""

    socket: str = "/run/numad-py-policy"
    deadline_ms: float = 200.0
    patience: int = 3
    fallback: Literal["hold", "threshold"] = "hold"
    keyframe_every: int = 1

    def __post_init__(self) -> None:
        if not self.socket.startswith("/"):
            raise ValueError("socket: an absolute path is needed")
        if not 0 < self.deadline_ms <= LONGEST_DEADLINE_MS:
            raise ValueError(f"deadline_ms: more than 0, and at most {LONGEST_DEADLINE_MS}")
        for name in ("patience", "keyframe_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: at least 1")


def load(name_or_path: str) -> Profile[Any, Limits]:
    """Read a profile by its name, or by a path with a slash or the ending .yaml.

    Raises ProfileError, also where there is none of that name.
    """
    path = Path(name_or_path)
    if "/" not in name_or_path and path.suffix != ".yaml":
        path = find(name_or_path)
    return profile.read(path, {**policies.PARAMETERS, EXTERNAL: ExternalParameters}, Limits)


def build(
    chosen: Profile[Any, Limits],
    external: Callable[[Profile[Any, Limits]], Policy] | None = None,
    model: Callable[[str], Trees] | None = None,
) -> Policy:
    """Make the policy of a profile, with the guard around it.

    ``external`` makes one that asks another program; ``model`` reads a trained model in another way than ``read_model``.
    """
    if chosen.policy == LEARNED:
        return Guard(_learned(chosen.parameters, model or read_model), chosen.guard)
    if chosen.policy != EXTERNAL:
        known = {**policies.BUILT_IN, **(policies.WITH_TASKS if chosen.guard.tasks else {})}
        return Guard(known[chosen.policy](chosen.parameters), chosen.guard)
    if external is None:
        raise ProfileError(
            f"{chosen.name}: its policy is another program, which the daemon alone asks; "
            "simulate it by its command: --policy 'stdio:COMMAND'"
        )
    return Guard(external(chosen), chosen.guard)


def read_model(name_or_path: str) -> Trees:
    """Read a trained model by its path, or by the name that it has beside a profile; raise ModelError."""
    try:
        return Trees(find_model(name_or_path).read_bytes(), NAMES)
    except OSError as error:
        raise ModelError(f"{name_or_path}: cannot be read: {error.strerror}") from None
    except ModelError as error:
        raise ModelError(f"{name_or_path}: {error}") from None


def find_model(name_or_path: str) -> Path:
    """Give the file of a model, whether there is one or not."""
    if "/" in name_or_path:
        return Path(name_or_path)
    return next(
        (path for place in PLACES if (path := place / name_or_path).exists()), PLACES[0] / name_or_path
    )


def _learned(parameters: LearnedParameters, model: Callable[[str], Trees]) -> Learned:
    try:
        return Learned(parameters, model(parameters.model))
    except ModelError as error:
        return Learned(parameters, str(error))


def names() -> tuple[str, ...]:
    """Give the names that ``load`` knows."""
    return tuple(sorted({path.stem for place in PLACES for path in place.glob("*.yaml")}))


def find(name: str) -> Path:
    """Give the file of a name; ProfileError where there is none."""
    for place in PLACES:
        path = place / f"{name}.yaml"
        if path.is_file():
            return path
    raise ProfileError(f"there is no profile {name!r}; there is {', '.join(names()) or 'none at all'}")
