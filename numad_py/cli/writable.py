# SPDX-License-Identifier: Apache-2.0

"""Say before minutes of work that its result cannot be written, rather than lose it then."""

from pathlib import Path


def refuse_unwritable(*paths: Path) -> None:
    """Raise OSError for a file that could not be written, and leave what is there as it is."""
    for path in paths:
        try:
            path.open("xb").close()
        except FileExistsError:
            path.open("ab").close()
        else:
            path.unlink()
