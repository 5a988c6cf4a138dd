# SPDX-License-Identifier: Apache-2.0

"""What a profile allows its policy."""

from dataclasses import dataclass
from typing import Final

from numad_py.model import Ending

MB: Final = 1 << 20
SAVED_S: Final = 10.0  # of the rate, at most: after a pause of ours or of the machine's, hours' worth must not move at once
LONGEST_WAIT_S: Final = 900.0  # the 15 minutes of katalyst's ping-pong guard
PING_PONG_COOLDOWNS: Final = 10  # a turn elsewhere within so many of the last is ping-pong, longer after each
_MOST_DOUBLINGS: Final = 30  # by then any wait is years
GIVING_UP: Final = frozenset({Ending.NO_ROOM, Ending.REFUSED, Ending.STUCK, Ending.UNKNOWN})


def doubled(wait_s: float, times: int) -> float:
    """Give a wait that became twice as long so many times; a float has an end, and who fails for weeks would find it."""
    return wait_s * 2.0 ** min(times, _MOST_DOUBLINGS)


@dataclass(frozen=True)
class Limits:
    """What a profile allows its policy. MB = 2^20 bytes; shares are 0 to 1.

    ``tasks`` lets it change the affinity of threads.
    """

    limit_mb_per_s: float = 1024.0
    headroom_mb: float = 64.0
    cache_share: float = 0.5
    cooldown_s: float = 10.0
    backoff_s: float = 30.0
    tasks: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.cache_share <= 1:
            raise ValueError("cache_share: a share is between 0 and 1")
        for name in ("limit_mb_per_s", "headroom_mb", "cooldown_s", "backoff_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative")
