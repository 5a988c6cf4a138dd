# SPDX-License-Identifier: Apache-2.0

"""Memory is remote where its process uses the CPUs of other nodes."""

from functools import reduce

import pytest

from numad_py.daemon.homes import Homes
from numad_py.model import Mempolicy
from tests.builders import job, process, regions, snapshot, topology

PAGE = 4096
RAN = process(pages={0: 900}, cpu_s={1: 1.0})


def after(*looks):
    """Give what is known after these looks."""
    return reduce(Homes.after, looks, Homes())


def placed(homes, member):
    """Give what is resident, remote, and remote and movable, in bytes by node."""
    return homes.placed(job(member), len(homes.topology.nodes)).tolist()


def in_pages(*counts):
    return [[pages * PAGE for pages in by_node] for by_node in counts]


@pytest.mark.parametrize(
    ("cpu_s", "remote"),
    [
        ({1: 1.0}, [900, 0]),
        ({0: 1.0}, [0, 100]),
        ({0: 0.4, 1: 1.0}, [900, 0]),
        ({0: 0.5, 1: 1.0}, [0, 0]),
        ({}, [0, 0]),
    ],
)
def test_a_node_is_home_whose_cpus_are_used_at_least_half_as_much_as_the_busiest(cpu_s, remote):
    member = process(pages={0: 900, 1: 100}, cpu_s=cpu_s)

    homes = after(snapshot(processes=[member]))

    assert placed(homes, member) == in_pages([900, 100], remote, remote)


def test_who_sleeps_keeps_its_home():
    sleeping = process(pages={0: 900})

    homes = after(snapshot(processes=[RAN]), snapshot(processes=[sleeping]))

    assert placed(homes, sleeping) == in_pages([900, 0], [900, 0], [900, 0])


def test_another_process_of_the_same_pid_has_no_home_yet():
    other = process(pages={0: 900}, start_ticks=8)

    homes = after(snapshot(processes=[RAN]), snapshot(processes=[other]))

    assert placed(homes, other) == in_pages([900, 0], [0, 0], [0, 0])


def test_who_is_gone_is_forgotten():
    looks = [snapshot(processes=[process(pid, pages={0: 900}, cpu_s={1: 1.0})]) for pid in range(100)]

    homes = after(*looks)

    assert list(homes.remote) == [looks[-1].processes[0].key]


def test_what_was_bound_is_remote_but_not_movable():
    member = process(regions=regions({0: 900}, mempolicy=Mempolicy.BIND), cpu_s={1: 1.0})

    homes = after(snapshot(processes=[member]))

    assert placed(homes, member) == in_pages([900, 0], [900, 0], [0, 0])


def test_memory_on_a_node_without_cpus_is_not_remote():
    on = topology(3, cpuless=(2,))
    member = process(pages={0: 5, 2: 900}, cpu_s={1: 1.0}, on=on)

    homes = after(snapshot(processes=[member], on=on))

    assert placed(homes, member) == in_pages([5, 0, 900], [5, 0, 0], [5, 0, 0])


def test_homes_are_learned_anew_where_nodes_come():
    more = topology(3)
    sleeping = process(pages={0: 900}, on=more)

    homes = after(snapshot(processes=[RAN]), snapshot(processes=[sleeping], on=more))

    assert placed(homes, sleeping) == in_pages([900, 0, 0], [0, 0, 0], [0, 0, 0])
