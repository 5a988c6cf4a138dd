# SPDX-License-Identifier: Apache-2.0

"""What is scored is of families and machines that nothing was trained on, as was written down before."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from numad_py.learn import CannotTrain, draws, split
from numad_py.sim import shipped

FAMILIES = ("wanderer", "late-bound-worker", "phase-change", "crossed-jobs", "two-nodes")


@pytest.fixture(scope="module")
def cases():
    return draws.cases([shipped.find("scenarios", name) for name in FAMILIES], [], 1, 1)


def refusal(call, *arguments):
    with pytest.raises(CannotTrain) as refused:
        call(*arguments)
    return str(refused.value)


def test_neither_a_family_nor_a_machine_is_on_both_sides(cases):
    by = split.made(cases)
    pairs = [(family, machine) for family in by.families for machine in by.machines]
    families, machines = (np.array(column) for column in zip(*pairs, strict=True))

    for fold in range(split.FOLDS):
        train, test = split.sides(by, families, machines, fold)

        assert len(train) > 0 < len(test)
        assert not {*families[train]} & {*families[test]}
        assert not {*machines[train]} & {*machines[test]}


@pytest.mark.parametrize(
    ("families", "machines", "what"),
    [(("a", "a"), ("m", "n"), "family a"), (("a", "b"), ("m", "m"), "machine m")],
)
def test_an_overlap_is_refused(families, machines, what):
    said = refusal(split.refuse_overlap, np.array(families), np.array(machines), np.array([0]), np.array([1]))

    assert said == f"the {what} is on both sides: what is scored there was trained on"


def test_a_split_is_read_as_it_was_written_and_fits_its_cases(cases, tmp_path):
    path = tmp_path / "split.json"
    split.write(split.made(cases), path)

    by = split.read(path)

    split.check(by, cases, path)
    assert by == split.made(cases)


def test_a_case_that_is_not_in_the_split_is_refused(cases):
    said = refusal(split.check, split.made(cases[1:]), cases, Path("split.json"))

    assert said.startswith("split.json: scenarios/wanderer/0 is not in it as it is now")


def test_a_machine_that_is_not_in_the_split_is_refused_before_anything_is_played(cases):
    by = split.made(cases)
    name, *others = by.machines
    before = msgspec.structs.replace(by, machines={other: by.machines[other] for other in others})

    said = refusal(split.check, before, cases, Path("split.json"))

    assert said.startswith(f"split.json: the machine {name} is not in it")


def test_the_same_trace_under_two_names_in_two_folds_is_refused(tmp_path):
    paths = [tmp_path / f"{name}.jsonl" for name in "ab"]
    for path in paths:
        path.write_text("the same")
    twins = draws.cases([], paths, 1, 0)
    by = split.made(twins)

    assert "are the same, and in folds" in refusal(split.check, by, twins, Path("s"))


def test_dated_traces_of_one_machine_are_cases_of_one_family(tmp_path):
    paths = [tmp_path / f"host.{day}.jsonl.zst" for day in ("mon", "tue")]
    for path in paths:
        path.write_text(path.name)

    dated = draws.cases([], paths, 1, 0)

    split.check(split.made(dated), dated, Path("s"))
    assert [case.name for case in dated] == [f"{tmp_path.name}/host.{day}/0" for day in ("mon", "tue")]
    assert {case.family for case in dated} == {"host"}


def test_two_cases_of_one_name_are_refused(tmp_path):
    paths = [tmp_path / place / "day" / "host.jsonl" for place in "ab"]

    said = refusal(draws.cases, [], paths, 1, 0)

    assert said == f"{paths[0]} and {paths[1]} are both called day/host/0: rename one, or leave it out"


def test_a_ring_is_one_case_and_another_once_a_segment_is_added(tmp_path):
    ring = draws.cases([], [tmp_path / "ring.jsonl"], 1, 0)
    (tmp_path / "ring.000001.jsonl").write_text("one")
    (tmp_path / "ring.000002.jsonl").write_text("two")
    by = split.made(ring)
    split.check(by, ring, Path("s"))

    (tmp_path / "ring.000003.jsonl").write_text("three")

    assert "is not in it as it is now" in refusal(split.check, by, ring, Path("s"))


def test_without_a_split_nothing_is_trained(tmp_path):
    assert "there is no split yet" in refusal(split.read, tmp_path / "none.json")


def test_what_is_no_split_is_refused(tmp_path):
    path = tmp_path / "split.json"
    path.write_text("{}")

    assert refusal(split.read, path).startswith(f"{path}: is no split")


def test_the_shipped_model_was_trained_on_a_split_that_still_fits():
    path = Path(__file__).parents[3] / "policies/model.split.json"
    by = msgspec.json.decode(path.read_bytes(), type=split.Split)
    few = draws.cases([shipped.find("scenarios", name) for name in FAMILIES], [], 1, 2)

    split.check(by, few, path)


def test_draws_are_the_same_every_time_and_another_for_each_number(cases):
    case = cases[0]

    assert draws.drawn(case) == draws.drawn(case)
    assert draws.sha256(case) != draws.sha256(replace(case, draw=1))


def test_another_last_bit_of_a_figure_is_the_same_case(cases, monkeypatch):
    case, as_it_is = cases[0], draws.sha256(cases[0])
    was = draws.drawn(case)

    for times, is_same in ((1 + 2**-52, True), (1.001, False)):
        monkeypatch.setattr(
            draws, "drawn", lambda _, times=times: replace(was, length_s=was.length_s * times)
        )
        assert (draws.sha256(case) == as_it_is) is is_same


def test_a_held_scenario_is_never_drawn():
    held = draws.Case(shipped.find("scenarios", "late-binding"), 0)

    with pytest.raises(ValueError, match="is held"):
        draws.sha256(held)
