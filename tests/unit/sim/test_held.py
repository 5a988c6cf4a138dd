# SPDX-License-Identifier: Apache-2.0

"""A held scenario's figures are drawn from a seed: the same for the same, within their ranges, and new for another."""

import re
from pathlib import Path

import pytest

from numad_py.profile import ProfileError
from numad_py.sim import held, scenario

HELD = sorted((Path(__file__).parents[3] / "sim" / "scenarios" / "held").glob("*.yaml"))
TEXT = """
about: a test
published: nothing
split: held
marks: [{mark: fitted, figures: [machine, jobs], source: drawn}]
machine: {cpus: [8, 8], memory_mb: [1024, 1024], file_mb: [64, 64], distances: [[10, 21], [21, 10]]}
jobs:
  - name: one
    groups:
      - run: [{at_s: 0, cores: [{from: 1.0, to: 8.0}, 0]}]
        memory: [{mb: [{from: 10, to: 20, name: data}, {from: 10, to: 20}]}, {mb: [{same: data}, 0]}]
"""


def drawn(tmp_path, seed, **changes):
    text = TEXT
    for was, now in changes.items():
        assert was in text
        text = text.replace(was, now)
    path = tmp_path / "test.yaml"
    path.write_text(text)
    (job,) = held.read(path, seed).jobs
    return job.groups[0]


def test_the_same_seed_draws_the_same_and_another_anew(tmp_path):
    assert drawn(tmp_path, "a") == drawn(tmp_path, "a")
    assert len({drawn(tmp_path, str(seed)).run for seed in range(20)}) == 20


def test_figures_lie_within_their_ranges_and_whole_ends_give_whole_figures(tmp_path):
    groups = [drawn(tmp_path, str(seed)) for seed in range(200)]

    assert {group.memory[0].mb[0] for group in groups} == set(range(10, 21))
    assert all(1.0 <= group.run[0].cores[0] <= 8.0 for group in groups)
    assert any(group.run[0].cores[0] % 1 for group in groups)


def test_two_ranges_are_drawn_apart_and_one_by_name_is_the_same_everywhere(tmp_path):
    groups = [drawn(tmp_path, str(seed)) for seed in range(20)]

    assert all(group.memory[0].mb[0] == group.memory[1].mb[0] for group in groups)
    assert any(group.memory[0].mb[0] != group.memory[0].mb[1] for group in groups)


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("split: held", "split: tune", "is not held: play it with numad-py simulate --scenario"),
        ("from: 1.0, to: 8.0", "from: 8.0, to: 1.0", "cores: item 1: found from: 8.0, to: 1.0, needed are"),
        ("from: 1.0, to: 8.0", "from: one, to: 8.0", "found from: 'one'"),
        ("{same: data}", "{same: date}", "found same: date, drawn are data"),
        ("{same: data}", "{same: data, from: 1}", "mb: item 1: found a mapping, allowed is a number"),
    ],
)
def test_a_range_that_is_none_is_refused(tmp_path, was, now, said):
    with pytest.raises(ProfileError, match=re.escape(said)):
        drawn(tmp_path, "a", **{was: now})


@pytest.mark.parametrize("path", HELD, ids=lambda path: path.stem)
def test_whatever_is_drawn_of_a_shipped_one_can_be_played(path):
    for seed in range(20):
        assert next(scenario.ticks(held.read(path, str(seed)))).snapshot.processes
