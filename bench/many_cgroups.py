# SPDX-License-Identifier: Apache-2.0

"""What it costs to know 10,000 cgroups: to walk them, and to be told of them.

Run as root: python bench/many_cgroups.py
"""

import statistics
import time
from contextlib import contextmanager

from numad_py.kernel import cgroup
from numad_py.kernel.cgroup_tree import Tree
from numad_py.sense import opt_in

PODS, CONTAINERS = 100, 99
MANY = 1 + PODS * (1 + CONTAINERS)
RULES = {
    "no pattern": opt_in.Rules(),
    "two patterns that may match anywhere": opt_in.rules(
        deny=["/**/none-*"], labels={"/**/train-*.scope": "default"}, profiles=["default"], user_profiles=[]
    ),
}


@contextmanager
def many(top):
    """Make them, and remove them again."""
    made = [
        top,
        *(top / f"pod{pod}" for pod in range(PODS)),
        *(top / f"pod{pod}/{container}" for pod in range(PODS) for container in range(CONTAINERS)),
    ]
    for directory in made:
        directory.mkdir()
    try:
        yield
    finally:
        for directory in reversed(made):
            directory.rmdir()


def cpu_us(do, *arguments):
    """Give the CPU time of one call."""
    began_ns = time.process_time_ns()
    do(*arguments)
    return (time.process_time_ns() - began_ns) / 1e3


def changed_us(tree, change, directories):
    """Give the CPU time of a refresh after each change, the median."""
    costs_us = []
    for directory in directories:
        change(directory)
        costs_us.append(cpu_us(tree.refresh))
    return statistics.median(costs_us)


def main():
    """Print a line for each."""
    top = cgroup.read_mount_point() / "numad-py-many"
    with many(top):
        print(f"walk: {cpu_us(list, cgroup.walk(top)) / MANY:.1f} µs a cgroup")
        print(f"walk and watch: {cpu_us(Tree, top) / MANY:.1f} µs a cgroup")
        tree = Tree(top)
        for name, rules in RULES.items():
            print(
                f"decide, {name}: {cpu_us(opt_in.assign, tree.directories, top, rules) / MANY:.1f} µs a cgroup"
            )
        print(f"refresh at rest: {statistics.median(cpu_us(tree.refresh) for _ in range(100)):.1f} µs")
        new = [top / f"pod{pod}/new" for pod in range(PODS)]
        print(f"refresh when one came: {changed_us(tree, type(top).mkdir, new):.0f} µs")
        print(f"refresh when one went: {changed_us(tree, type(top).rmdir, new):.0f} µs")
        tree.close()


if __name__ == "__main__":
    main()
