# SPDX-License-Identifier: Apache-2.0

"""A model learns what candidates really save, is no better than chance on shuffled labels, and ships with its card."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor
from typer.testing import CliRunner

from numad_py import profiles, trace
from numad_py.cli.main import application
from numad_py.cli.train import UNSCORED
from numad_py.learn import CannotTrain, card, draws, examples, fitting, split
from numad_py.learn.examples import Examples, saved_ns
from numad_py.learn.withheld import Effect
from numad_py.policies.features import NAMES
from numad_py.policies.trees import Trees, written
from numad_py.sim import scenario
from numad_py.sim.cost import Prices
from tests.scripts import changed

MIB = 1 << 20
TRACE = Path(__file__).parents[3] / "sim/traces/two-nodes.jsonl.zst"
LATE = """
about: a test
published: nothing
marks: [{mark: fitted, figures: [machine, jobs, length_s], source: made up}]
length_s: 40
machine: {cpus: [4, 4], memory_mb: [2048, 2048], file_mb: [999, 64], distances: [[10, 21], [21, 10]]}
jobs:
  - name: late
    groups:
      - run: [{at_s: 0, cores: [0, 1]}]
        memory: [{kind: heap, mb: [300, 0]}, {kind: file, mb: [9, 0], mapped_by: 2}]
"""
PRICES = Prices(np.array([[100.0, 200.0], [200.0, 100.0]]), memory_share=0.5)


def made_up(count=600, *, shuffled=False):
    """Give examples whose label is a feature and some noise; families and machines say nothing of it."""
    random = np.random.default_rng(5)
    features = random.uniform(0, 1, (count, len(NAMES)))
    label = features[:, 0] * 2 + random.normal(0, 0.1, count)
    label = random.permutation(label) if shuffled else label
    names = (np.array([f"{kind}{each % 8}" for each in range(count)]) for kind in ("family", "machine"))
    ones = np.ones(count)
    return Examples(features, label, label, ones * 1e8, ones * 1e9, ones * 1e9, *names)


def by_number():
    numbers = {
        kind: {f"{kind}{each}": each % split.FOLDS for each in range(8)} for kind in ("family", "machine")
    }
    return split.Split(numbers["family"], numbers["machine"], {})


@pytest.fixture(scope="module")
def fitted():
    return fitting.fit(made_up(), by_number(), lambda _: None)


def test_what_is_in_the_features_is_learned(fitted):
    assert fitted.scored.skill > 0.8
    assert max(fitted.importance, key=fitted.importance.get) == NAMES[0]


def test_a_seed_draws_other_trees_and_the_same_seed_the_same(fitted):
    again, other = (fitting.fit(made_up(), by_number(), lambda _: None, seed) for seed in (1, 2))

    assert again.model == fitted.model
    assert other.model != fitted.model


def test_shuffled_labels_show_no_skill():
    fitted = fitting.fit(made_up(shuffled=True), by_number(), lambda _: None)

    assert fitted.scored.skill < 0.05


def test_whether_a_move_paid_is_told_by_what_it_took_and_not_by_its_published_price():
    one = np.ones(1)
    scored = fitting.Scored(one, one, one, one, one * 1e8, cost_ns=one * 1e9, paid_ns=one * 9e9)

    assert scored.right(one) == 0
    assert replace(scored, paid_ns=one * 2e9).right(one) == 1


def test_too_few_examples_are_refused():
    with pytest.raises(CannotTrain, match="too few scenarios and traces"):
        fitting.fit(made_up(80), by_number(), lambda _: None)


def test_numpy_says_what_scikit_learn_does():
    data = made_up()
    regressor = GradientBoostingRegressor(
        max_depth=4, n_estimators=30, learning_rate=fitting.RATE, random_state=1
    )
    regressor.fit(data.features, data.label)

    trees = Trees(written(fitting.model_of(regressor, data)), NAMES)

    assert np.abs(trees.predicted(data.features) - regressor.predict(data.features)).max() < 1e-9


def lived(*cores):
    """Say what 1 MiB of two, on node 0, would have saved on node 1, of who ran so at looks a second apart."""
    held, elapsed_s = np.full(len(cores), 2.0 * MIB), np.ones(len(cores))
    return saved_ns(np.array([MIB, 0]), 1, np.array(cores, float), held, elapsed_s, PRICES, 4096)


def test_who_stays_saves_all_the_time_and_who_is_gone_saves_no_more():
    stays, goes = lived(*[(0, 1)] * 4), lived((0, 1), *[(0, 0)] * 3)

    assert (stays, goes) == (pytest.approx(1e9), pytest.approx(0.25e9))


def test_who_comes_and_goes_saves_nothing():
    assert lived(*[(0, 1), (1, 0)] * 4) == pytest.approx(0)


def test_who_goes_back_for_good_is_charged_until_that_is_noticed_and_for_the_way_back():
    saved = lived(*[(0, 1)] * 5, *[(1, 0)] * 20)

    assert saved == pytest.approx((5 - examples.NOTICED_S) * 0.25e9 - 256 * 1240)


@pytest.mark.parametrize("case", [draws.Case(Path("made/wanderer"), 1), draws.Case(Path("made/leaning"), 3)])
def test_examples_of_a_case_have_finite_figures(case):
    found = examples.of(case)

    assert len(found) > 0
    assert np.isfinite(found.features).all()
    assert len({*(found.paid_ns / found.cost_ns).round(3).tolist()}) == len({*found.machine.tolist()})
    assert (np.abs(found.label) <= max(examples.TIMES)).all()
    assert {*found.family.tolist()} == {case.family}


def test_a_ring_teaches_what_one_file_does(tmp_path):
    header, ticks = trace.read(TRACE)
    (tmp_path / "traces").mkdir()
    ring = tmp_path / "traces" / "two-nodes.jsonl"
    with trace.RingWriter(ring, header, MIB) as writer:
        for tick in ticks:
            writer.write(tick)
    assert len(trace.ring_segments(ring)) > 1

    whole, parts = examples.of(draws.Case(TRACE, 0)), examples.of(draws.Case(ring, 0))

    assert len(parts) > 0
    assert parts.label.tolist() == whole.label.tolist()


def recorded(path, header, ticks):
    """Write a trace of these ticks, and give it as a case."""
    path.parent.mkdir(parents=True)
    with trace.Writer(path, header) as writer:
        for tick in ticks:
            writer.write(tick)
    return draws.Case(path, 0)


@pytest.mark.parametrize(("apart_s", "are_examples"), [(20, True), (60, True), (61, False), (100, False)])
def test_looks_too_far_apart_to_tell_what_came_of_a_move_are_no_examples(tmp_path, apart_s, are_examples):
    header, ticks = trace.read(TRACE)
    rare = (
        replace(tick, snapshot=replace(tick.snapshot, time_s=tick.snapshot.time_s * apart_s))
        for tick in ticks
    )

    found = examples.of(recorded(tmp_path / "rare" / "a.jsonl", header, rare))

    assert (len(found) > 0) == are_examples
    assert np.isfinite(found.label).all()


def test_files_that_others_map_are_used_too_and_teach_no_greater_saving(tmp_path):
    def taught(file_mb):
        late = changed(LATE, **{"mb: [9, 0]": f"mb: [{file_mb}, 0]"})
        path = tmp_path / f"{file_mb}" / "late" / "a.jsonl"  # of one name: draws are the same
        return examples.of(recorded(path, late.header("a"), scenario.ticks(late)))

    few, many = taught(9), taught(900)

    assert len(many) == len(few) > 0
    assert many.label == pytest.approx(few.label)


def test_the_card_begins_with_the_verdict_and_has_every_feature(fitted):
    text = card.text(fitted, made_up(), [draws.Case(Path("made/wanderer"), 0)], {}, UNSCORED)

    assert text.splitlines()[0] == UNSCORED
    assert [name for name in NAMES if f"| {name} |" not in text] == []
    assert "in simulators alone: no machine with several nodes was measured, and no guest" in text


def test_what_ships_is_a_model_of_these_features_and_small():
    path = profiles.find_model("model.json")

    model = Trees(path.read_bytes(), NAMES).model

    assert (model.features, path.stat().st_size < 300_000) == (NAMES, True)


def run(*words):
    return CliRunner().invoke(application(["train"]), ["train", *words])


def test_a_split_is_written_before_and_training_writes_a_model_and_its_card(tmp_path, monkeypatch):
    monkeypatch.setattr("numad_py.cli.train._played", lambda _: made_up())
    monkeypatch.setattr(
        split, "sides", lambda _, families, machines, fold: split_by_number(families, machines, fold)
    )
    chosen = ["--scenario", "wanderer", "--draws", "1", "--made", "0", "--split", str(tmp_path / "s.json")]

    wrote = run(*chosen, "--write-split")
    trained = run(*chosen, "--output", str(tmp_path / "model.json"))

    assert (wrote.exit_code, trained.exit_code) == (0, 0), trained.output
    assert Trees((tmp_path / "model.json").read_bytes(), NAMES)
    assert (tmp_path / "model.md").read_text().startswith(UNSCORED)


def test_training_tells_what_moving_took_away_where_jobs_were_withheld(tmp_path, monkeypatch):
    effect = Effect(np.full(6, 0.2), np.full(7, 0.8))
    monkeypatch.setattr("numad_py.cli.train._played", lambda _: made_up())
    monkeypatch.setattr("numad_py.cli.train.effect_of", lambda _: effect)
    monkeypatch.setattr(
        split, "sides", lambda _, families, machines, fold: split_by_number(families, machines, fold)
    )
    chosen = [str(TRACE), "--draws", "1", "--made", "0", "--split", str(tmp_path / "s.json")]

    run(*chosen, "--write-split")
    trained = run(*chosen, "--output", str(tmp_path / "model.json"))

    card_text = (tmp_path / "model.md").read_text()
    assert f"traces/two-nodes/0: {effect}" in trained.output
    assert f"## Moved against withheld\n\n- traces/two-nodes/0: {effect}\n" in card_text
    assert "and no guest" not in card_text


def split_by_number(families, machines, fold):
    numbers = np.array([int(name[-1]) % split.FOLDS for name in families.tolist()])
    return np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("none/m.json", "No such file"),
        ("folder", "Is a directory"),
        ("m.md", "the card takes that name"),
    ],
)
def test_what_could_not_be_written_is_refused_before_anything_is_played(
    tmp_path, monkeypatch, output, sentence
):
    monkeypatch.delattr("numad_py.cli.train._played")
    (tmp_path / "folder").mkdir()
    chosen = ["--scenario", "wanderer", "--draws", "1", "--made", "0", "--split", str(tmp_path / "s.json")]
    run(*chosen, "--write-split")

    ran = run(*chosen, "--output", str(tmp_path / output))

    assert sentence in ran.output + str(ran.exception)
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "s.json"}


def test_without_scikit_learn_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    chosen = ["--scenario", "wanderer", "--draws", "1", "--made", "0", "--split", str(tmp_path / "s.json")]
    run(*chosen, "--write-split")
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    trained = run(*chosen)

    assert isinstance(trained.exception, CannotTrain)
    assert "pip install 'numad-py[train]'" in str(trained.exception)
