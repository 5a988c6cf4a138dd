# SPDX-License-Identifier: Apache-2.0

"""Hold a scenario's result against what was published of it, and never call a fit a proof."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from numad_py.machines import Figure
from numad_py.sim.script import Effect

WITHIN_SHARE: Final = 0.1  # of what was published: the target of most cases of `make validate`


@dataclass(frozen=True)
class Verdict:
    """``word`` is calibrated, validated, not validated, or not compared; ``why`` is the rest of the sentence."""

    word: str
    why: str


def verdicts(effects: Sequence[Effect], values: Mapping[str, Mapping[str, Any]]) -> tuple[Verdict, ...]:
    """Give a verdict for each effect; ``values`` are figures by policy."""
    return tuple(_verdict(effect, values) for effect in effects)


def _verdict(effect: Effect, values: Mapping[str, Mapping[str, Any]]) -> Verdict:
    low, high = effect.value if isinstance(effect.value, tuple) else (effect.value, effect.value)
    published = f"{effect.figure} under {effect.policy} was published as {_text(effect.value)}"
    if effect.policy not in values:
        return Verdict("not compared", f"{published}: add --policy {effect.policy}")
    found = values[effect.policy][effect.figure]
    beside = f"{published} and is {'nothing' if found is None else f'{found:.3g}'} here"
    if effect.kind == "fitted":
        return Verdict("calibrated", f"{beside}; figures were fitted to that")
    agrees = found is not None and low * (1 - WITHIN_SHARE) <= found <= high * (1 + WITHIN_SHARE)
    word = "validated" if agrees else "not validated"
    return Verdict(word, f"{beside}; {WITHIN_SHARE:.0%} off are allowed")


def _text(value: Figure) -> str:
    return " to ".join(f"{each:g}" for each in (value if isinstance(value, tuple) else (value,)))
