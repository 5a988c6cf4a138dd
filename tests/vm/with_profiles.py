# SPDX-License-Identifier: Apache-2.0

"""The daemon as it is shipped, which also finds profiles in the folder ``policies`` of its state directory."""

import os
from pathlib import Path

from numad_py import profiles
from numad_py.cli.main import main

if __name__ == "__main__":
    profiles.PLACES = (*profiles.PLACES, Path(os.environ["STATE_DIRECTORY"]) / "policies")
    main()
