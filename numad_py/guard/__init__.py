# SPDX-License-Identifier: Apache-2.0

"""A policy around a policy: holds it to its limits, and to what became of earlier moves."""

from numad_py.guard.guarding import Guard
from numad_py.guard.limits import Limits

__all__ = ("Guard", "Limits")
