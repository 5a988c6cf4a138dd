# SPDX-License-Identifier: Apache-2.0

"""Every fitted assumption is made a fifth less and more, alone and with the others; what is sourced stays."""

from pathlib import Path

import pytest

from numad_py.profile import load_yaml, parse_yaml
from numad_py.sim import figures, fitted, script

SCENARIOS = sorted((Path(__file__).parents[3] / "sim" / "scenarios").glob("*.yaml"))
TEXT = """
about: a test
published: nothing
marks:
  - {mark: sourced, figures: [machine.cpus], source: a table}
  - {mark: fitted, figures: [machine, length_s], source: a server}
  - {mark: fitted, figures: [jobs], source: a job}
  - {mark: measured, figures: [jobs.one.groups.*.memory], source: a run}
length_s: 10
machine: {cpus: [2, 2], memory_mb: [1000, 1000], file_mb: [50, 50], distances: [[10, 21], [21, 10]]}
jobs: [{name: one, groups: [{run: [{at_s: 0, cores: [1, 0]}], memory: [{mb: [10, 0]}]}]}]
"""
WRITTEN = parse_yaml(TEXT, "here")


def found():
    return {(each.assumption, each.factor): each.mapping for each in fitted.variants(WRITTEN, "here")}


def changes(mapping):
    """Give the first parts of the paths whose figures differ."""
    return {
        key
        for key in ("length_s", "machine", "jobs")
        if list(figures.paths(mapping)) != list(figures.paths(WRITTEN)) or mapping[key] != WRITTEN[key]
    }


def test_each_assumption_is_changed_alone_and_all_of_them_together():
    assert {key: changes(mapping) for key, mapping in found().items()} == {
        (assumption, factor): changed
        for factor in (0.8, 1.2)
        for assumption, changed in {
            "a server": {"length_s", "machine"},
            "a job": {"jobs"},
            "all of them": {"length_s", "machine", "jobs"},
        }.items()
    }


def test_what_is_sourced_or_measured_stays():
    every = found()["all of them", 1.2]

    assert every["machine"]["cpus"] == [2, 2]
    assert every["machine"]["memory_mb"] == [1200, 1200]
    assert every["jobs"][0]["groups"][0] == {
        "run": [{"at_s": 0, "cores": [1.2, 0]}],
        "memory": [{"mb": [10, 0]}],
    }


def test_where_nothing_is_fitted_there_is_no_variant():
    sourced = parse_yaml(TEXT.replace("fitted", "sourced"), "here")

    assert list(fitted.variants(sourced, "here")) == []


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_mark_of_a_shipped_scenario_is_the_closest_of_some_figure(path):
    mapping = load_yaml(path)
    patterns = [pattern for mark in script.read(path).marks for pattern in mark.figures]

    closest = {figures.closest(each, patterns) for each in figures.paths(mapping)}

    assert set(patterns) <= closest
