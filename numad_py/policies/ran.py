# SPDX-License-Identifier: Apache-2.0

"""Where a process ran lately, and whether it should be bound."""

from typing import Final, NamedTuple

from numad_py.policies.wishes import Evidence, Wish
from numad_py.topology import Floats

AVERAGED: Final = 0.8  # of where it ran, kept from look to look
REMEMBERED: Final = 0.95  # of its turns, likewise
PEAK_KEPT: Final = 0.98  # of the most threads that it ran
NEW: Final = Evidence(restless=1.0)  # nobody is bound at the first look


class Ran(NamedTuple):
    """The cores that a process used by node, on average, how many threads wanted them, and how often it turned lately.

    ``load`` is by node how many threads wanted a core, on average, ``last`` when they were read last, and ``threads`` how
    many at the most. ``options`` are
    what is expected of nodes where it could be bound, best first. It ``may_inherit`` the CPUs of one that was bound.
    """

    cores: Floats
    load: Floats
    last: Floats
    home: int
    threads: float
    turns: float = 0.0
    evidence: Evidence = NEW
    options: tuple[Wish, ...] = ()
    may_inherit: bool = False

    def after(self, cores: Floats, load: Floats, home: int) -> "Ran":
        """Add what was seen at a look."""
        return self._replace(
            cores=AVERAGED * self.cores + (1 - AVERAGED) * cores,
            load=AVERAGED * self.load + (1 - AVERAGED) * load,
            last=load,
            home=home if home >= 0 else self.home,
            threads=max(float(load.sum()), PEAK_KEPT * self.threads),
            turns=REMEMBERED * self.turns + (0 <= home != self.home >= 0),
        )
