# SPDX-License-Identifier: Apache-2.0

"""Room that a job is about to need is no room for another's memory."""

from numad_py.policies.room import Room
from tests.builders import GIB, MIB, node_memory, process, snapshot, topology

FREE = node_memory(
    free={0: GIB, 1: GIB}, file={0: 100 * MIB}, inactive_file={0: 50 * MIB}, dirty={0: 10 * MIB}
)


def look(room, time_s, pages, age_s=0.0, cpu_s=None):
    growing = process(pages={0: pages}, cpu_s={1: 1.0} if cpu_s is None else cpu_s, placement_age_s=age_s)
    return (room.look(snapshot(time_s, processes=[growing], memory=FREE), 10.0) // MIB).tolist()


def test_room_is_what_is_free_or_clean_above_the_watermark():
    assert look(Room(), 0.0, 1000) == [1024 - 8 + 40, 1024 - 8]


def test_what_a_job_will_touch_is_left_free_where_it_runs():
    room = Room()
    look(room, 0.0, 256)

    growing = look(room, 2.0, 256 * 21)

    assert growing == [1056, 1016 - 10 * 10 // 2]


def test_a_placement_that_was_not_read_anew_tells_no_growth():
    room = Room()
    look(room, 0.0, 256)
    before = look(room, 2.0, 256 * 21)

    again = look(room, 3.0, 256 * 21, age_s=1.0)

    assert again == before


def test_what_a_job_will_touch_is_left_free_also_where_its_cpu_time_was_not_read():
    room = Room()
    look(room, 0.0, 256)
    before = look(room, 2.0, 256 * 21)

    unread = look(room, 3.0, 256 * 21, age_s=1.0, cpu_s={})

    assert unread == before


def test_where_a_job_ran_is_forgotten_once_nodes_came_or_went():
    room, on = Room(), topology(3)
    look(room, 0.0, 256)
    look(room, 2.0, 256 * 21)

    unread = process(pages={0: 256 * 21}, on=on, placement_age_s=1.0)
    more = snapshot(3.0, processes=[unread], memory=node_memory(free={2: GIB}, on=on), on=on)

    assert (room.look(more, 10.0) // MIB).tolist() == [0, 0, 1016]


def test_a_job_that_shrinks_leaves_as_much_room_as_there_is():
    room = Room()
    look(room, 0.0, 256 * 40)

    assert look(room, 1.0, 256) == [1056, 1016]
