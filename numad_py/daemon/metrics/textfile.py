# SPDX-License-Identifier: Apache-2.0

"""Put metrics into a file that node_exporter reads."""

import os
import tempfile
from pathlib import Path
from typing import Final

import structlog

MODE: Final = 0o640  # who runs where is nobody's business but root's, and theirs who are in our group


class Textfile:
    """A file that is always whole; one that cannot be written is told of once, and tried again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failing = False

    def write(self, text: bytes) -> None:
        """Replace the file."""
        try:
            self._replace(text)
        except OSError as error:
            if not self._failing:
                self._failing = True
                note = "the daemon goes on, and tries again"
                structlog.get_logger().warning("metrics not written", why=str(error), note=note)
        else:
            self._failing = False

    def remove(self) -> None:
        """Let nobody take the last values for those of now."""
        self._path.unlink(missing_ok=True)

    def _replace(self, text: bytes) -> None:
        # Not prometheus_client.write_to_textfile: it opens a name that can be foretold, through any link.
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                os.fchmod(file.fileno(), MODE)
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
