# SPDX-License-Identifier: Apache-2.0

"""Stop acting when the operator says so, until he says otherwise, whatever restarts in between."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from numad_py.act.gate import Gate
from numad_py.daemon import state

WHO: Final = "operator"


@dataclass(frozen=True)
class Paused:
    """Since when, and by whom."""

    since_unix_s: int
    by_uid: int


class Pause:
    """Keeps the gate closed while ``paused`` says so; ``folder`` is where that is remembered."""

    def __init__(self, folder: Path, gate: Gate) -> None:
        self._path = folder / "paused.json"
        self._gate = gate
        self.paused: Paused | None = None
        if (
            self._path.exists()
        ):  # whatever is in it: better to wait for a second word than to act against the first
            kept = state.load(self._path, Paused)
            self._close(kept or Paused(int(time.time()), 0))
            if kept is None:
                state.save(self._path, self.paused)

    def begin(self, uid: int) -> None:
        """Close the gate at once, then remember it; raises OSError where only that fails."""
        self._close(self.paused or Paused(int(time.time()), uid))
        state.save(self._path, self.paused)

    def end(self) -> None:
        """Forget it, and open the gate."""
        self._path.unlink(missing_ok=True)
        self.paused = None
        self._gate.open(WHO)

    def _close(self, paused: Paused) -> None:
        self.paused = paused
        since = time.strftime("%F %T%z", time.localtime(paused.since_unix_s))
        self._gate.close(WHO, f"paused since {since} by uid {paused.by_uid}, until `numad-py resume`")
