# SPDX-License-Identifier: Apache-2.0

"""What to move, given what was measured; one policy per module."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from numad_py.policies.hold import Hold, HoldParameters
from numad_py.policies.interleave import Interleave, InterleaveParameters
from numad_py.policies.learned import Learned, LearnedParameters
from numad_py.policies.threshold import Threshold, ThresholdParameters
from numad_py.roles import Policy

PARAMETERS: Final[Mapping[str, type]] = {
    "hold": HoldParameters,
    "interleave": InterleaveParameters,
    "learned": LearnedParameters,
    "threshold": ThresholdParameters,
}
"""What may be set in a profile, by policy name."""

BUILT_IN: Final[Mapping[str, Callable[[Any], Policy]]] = {
    "hold": Hold,
    "interleave": Interleave,
    "learned": Learned,
    "threshold": Threshold,
}

WITH_TASKS: Final[Mapping[str, Callable[[Any], Policy]]] = {"threshold": partial(Threshold, tasks=True)}
"""The same, where the profile lets them move tasks; others wish for none."""
