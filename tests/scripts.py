# SPDX-License-Identifier: Apache-2.0

"""Scenarios out of a text, for tests that change a word of it."""

from numad_py.profile import parse_yaml
from numad_py.sim import script


def changed(text, **changes):
    """Give the scenario that the text is after these changes of it."""
    for was, now in changes.items():
        assert was in text
        text = text.replace(was, now)
    return script.scripted(parse_yaml(text, "here"), "here")
