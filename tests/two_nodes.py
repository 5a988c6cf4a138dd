# SPDX-License-Identifier: Apache-2.0

"""The shipped scenario of two nodes, as header and ticks, for tests that need a plausible trace."""

from pathlib import Path

from numad_py.sim import scenario, script

_SCRIPT = script.read(Path(__file__).parents[1] / "sim" / "scenarios" / "two-nodes.yaml")
HEADER = _SCRIPT.header("two-nodes")


def ticks():
    """Give them anew."""
    return scenario.ticks(_SCRIPT)
