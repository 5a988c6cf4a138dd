# SPDX-License-Identifier: Apache-2.0

"""What a job may import: it needs nothing but Python, and costs microseconds where no daemon runs."""

from numad_py.runtime.reporting import one_step, progress

__all__ = ("one_step", "progress")
