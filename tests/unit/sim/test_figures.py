# SPDX-License-Identifier: Apache-2.0

"""Figures of a document are named by dotted paths, of which the closest pattern speaks."""

import re

import pytest

from numad_py.profile import ProfileError
from numad_py.sim import figures

DOCUMENT = {
    "length_s": 10,
    "machine": {"cpus": [4, 6], "distances": [[10, 21], [21, 10]]},
    "jobs": [{"name": "late", "groups": [{"run": [{"at_s": 5, "cores": [1, 0.5]}]}]}],
    "about": "text",
}


def test_every_number_has_a_path_through_names_and_places():
    assert list(figures.paths(DOCUMENT)) == [
        "length_s",
        "machine.cpus.0",
        "machine.cpus.1",
        *(f"machine.distances.{row}.{column}" for row in (0, 1) for column in (0, 1)),
        "jobs.late.groups.0.run.0.at_s",
        "jobs.late.groups.0.run.0.cores.0",
        "jobs.late.groups.0.run.0.cores.1",
    ]


@pytest.mark.parametrize(
    ("path", "closest"),
    [
        ("machine.cpus.0", "machine.cpus"),
        ("machine.memory_mb.0", "machine"),
        ("jobs.late.run", "jobs.*.run"),
        ("jobs.early.run", "jobs.early.run"),
        ("length_s", None),
    ],
)
def test_the_pattern_of_most_parts_is_the_closest(path, closest):
    patterns = ["machine", "machine.cpus", "jobs", "jobs.*.run", "jobs.early.run"]

    assert figures.closest(path, patterns) == closest


def test_one_figure_is_changed_and_the_document_is_not():
    changed = figures.with_value(DOCUMENT, "jobs.late.groups.0.run.0.cores.1", 2, "here")

    assert changed["jobs"][0]["groups"][0]["run"][0]["cores"] == [1, 2]
    assert changed["machine"] is DOCUMENT["machine"]
    assert DOCUMENT["jobs"][0]["groups"][0]["run"][0]["cores"] == [1, 0.5]


def test_a_key_that_the_file_leaves_out_may_be_set():
    assert figures.with_value(DOCUMENT, "machine.file_mb", 3, "here")["machine"]["file_mb"] == 3


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("jobs.early.groups", "here: jobs: found no 'early', there is late"),
        ("machine.cpus.2", "here: machine: cpus: found no '2', there is 0, 1"),
        ("machine.gpus.0", "here: machine: found no 'gpus', there is cpus, distances"),
        ("length_s.0", "here: length_s: found no '0', there is nothing"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_what_there_is(path, said):
    with pytest.raises(ProfileError, match=re.escape(said)):
        figures.with_value(DOCUMENT, path, 1, "here")


def test_amounts_are_scaled_whole_things_rounded_and_the_rest_left():
    chosen = frozenset(figures.paths(DOCUMENT)) - {"length_s"}

    scaled = figures.scaled(DOCUMENT, chosen, 1.2)

    assert scaled["length_s"] == 10
    assert scaled["machine"] == {"cpus": [5, 7], "distances": [[10, 21], [21, 10]]}
    assert scaled["jobs"][0]["groups"][0]["run"][0] == {"at_s": 6.0, "cores": [1.2, 0.6]}
    assert scaled["about"] == "text"
