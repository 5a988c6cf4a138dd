# SPDX-License-Identifier: Apache-2.0

"""Importing this imports what the daemon imports before it starts."""

from numad_py.cli.main import application

application(["daemon"])
