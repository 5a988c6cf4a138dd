# SPDX-License-Identifier: Apache-2.0

"""Keep memory near the threads that use it."""

__version__ = "0.1.0"
