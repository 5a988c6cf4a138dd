# SPDX-License-Identifier: Apache-2.0

"""The guard knows by range where memory was brought last."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from numad_py.guard import ranges
from tests.builders import move, process

PAGES = 12
MOVES = st.lists(
    st.tuples(st.integers(0, 2), st.sets(st.integers(0, PAGES - 1), min_size=1)), min_size=1, max_size=6
)


def wish(target, pages):
    """Wish for pages, each a range of its own, as a policy may."""
    start = np.array(sorted(pages), np.uint64) * 4096
    return replace(
        move(process(pages={0: 1}), targets=(target,)),
        start=start,
        end=start + 4096,
        page_bytes=np.full(len(start), 4096),
    )


@given(MOVES, st.integers(0, 2), st.sets(st.integers(0, PAGES - 1), min_size=1))
def test_a_move_turns_if_any_of_it_was_brought_elsewhere_last(moves, target, pages):
    brought, last = (), {}
    for to, these in moves:
        brought = ranges.brought(brought, wish(to, these))
        last |= dict.fromkeys(these, to)

    found = ranges.turns(brought, wish(target, pages))

    assert found == any(last.get(page, target) != target for page in pages)
    for each in brought:
        assert (each.start < each.end).all()
        assert (each.end[:-1] <= each.start[1:]).all()
