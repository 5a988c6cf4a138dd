# SPDX-License-Identifier: Apache-2.0

"""``python -m numad_py`` is ``numad-py``."""

from numad_py.cli.main import main

main()
