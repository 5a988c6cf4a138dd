# SPDX-License-Identifier: Apache-2.0

"""Under the guard no shipped profile makes a scenario slower, and a policy gone mad does no lasting harm."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numad_py import profiles
from numad_py.guard import Guard, Limits
from numad_py.model import MovePages, Plan, Reason, Verdict
from numad_py.policies import BUILT_IN
from numad_py.roles import Policy
from numad_py.sim import scenario, script
from numad_py.sim.replay import scores
from numad_py.sim.shipped import find, names

WORSE = 1.03  # at most, than doing nothing
STEADY = {
    "about": "a job at home, whose memory and CPUs stay where they are",
    "published": "none",
    "marks": [{"mark": "fitted", "figures": ["machine", "length_s", "jobs"], "source": "made up"}],
    "length_s": 400,
    "machine": {
        "cpus": [32, 32],
        "memory_mb": [65536, 65536],
        "file_mb": [4096, 4096],
        "distances": [[10, 21], [21, 10]],
    },
    "jobs": [
        {
            "name": "steady",
            "reports": True,
            "groups": [
                {"run": [{"at_s": 0, "cores": [4, 0]}], "memory": [{"kind": "heap", "mb": [2048, 0]}]}
            ],
        }
    ],
}


class Mad(Policy):
    """Moves everything at every turn, always away from its CPUs or, by look and process, anywhere."""

    def __init__(self, *, away):
        self.away, self.looks = away, 0

    def decide(self, snapshot):
        self.looks += 1
        return Plan(tuple(self._move(process, snapshot) for process in snapshot.processes))

    def _move(self, process, snapshot):
        nodes, regions = snapshot.topology.node_ids, process.regions
        home = int(snapshot.cpu_s[snapshot.row_of[process.key]].argmax())
        drawn = (self.looks * 7919 + process.key.pid * 104_729) // 13
        target = nodes[(home + 1 if self.away else drawn) % len(nodes)]
        return MovePages(
            process.key,
            regions.start,
            regions.end,
            regions.page_bytes,
            sources=tuple(node for node in nodes if node != target),
            targets=(target,),
            limit_bytes=int(regions.resident_bytes.sum()),
            reason=Reason.SPREAD,
        )


def played(written, policy):
    """Play a scenario under a policy and under hold; give both scores, and the policy's turns."""
    turns = []
    policies = {"hold": BUILT_IN["hold"](None), "policy": policy}
    prices = scenario.prices(written, written.header("made-up"))
    found = scores(scenario.ticks(written), policies, prices, watch=lambda turn: turns.append(turn["policy"]))
    return found["policy"], found["hold"], turns


def reporting(name):
    written = script.read(find("scenarios", name))
    return replace(written, jobs=tuple(replace(job, reports=True) for job in written.jobs))


@pytest.mark.parametrize("away", [True, False])
def test_a_mad_policy_is_held_to_its_budget_its_damage_taken_back_and_the_job_hardly_slower(away):
    limits = Limits(limit_mb_per_s=512)

    score, hold, turns = played(script.scripted(STEADY, "steady"), Guard(Mad(away=away), limits))

    verdicts = [judged.verdict for turn in turns for judged in turn.plan.judged]
    moved = [sum(outcome.moved_bytes for outcome in turn.outcomes) for turn in turns]
    assert Verdict.TAKEN_BACK in verdicts
    assert max(moved) <= 512 << 20
    assert score.local_share_end == 1.0
    assert max(score.job_s.values()) <= 1.05 * max(hold.job_s.values())


@settings(max_examples=6)
@given(name=st.sampled_from(names("scenarios")), profile=st.sampled_from(profiles.names()))
def test_no_shipped_profile_makes_a_scenario_slower_whose_jobs_report(name, profile):
    score, hold, _ = played(reporting(name), profiles.build(profiles.load(profile)))

    assert score.modelled_s <= WORSE * hold.modelled_s


@settings(max_examples=6)
@given(name=st.sampled_from(names("scenarios")))
def test_the_default_makes_no_scenario_slower_whose_jobs_report_nothing(name):
    written = script.read(find("scenarios", name))

    score, hold, _ = played(written, profiles.build(profiles.load("default")))

    assert score.modelled_s <= WORSE * hold.modelled_s


def test_progress_here_goes_by_how_fast_the_work_is_done_here():
    away = {**STEADY, "length_s": 60}

    _, _, turns = played(script.scripted(away, "away"), Mad(away=True))

    (first,), (last,) = (turn.snapshot.jobs for turn in (turns[0], turns[-1]))
    recorded = list(scenario.ticks(script.scripted(away, "away")))
    (begun,), (ended,) = (tick.snapshot.jobs for tick in (recorded[0], recorded[-1]))
    done = (last.progress - first.progress) / (ended.progress - begun.progress)
    assert done == pytest.approx(1 / 1.18, rel=0.05)
