# SPDX-License-Identifier: Apache-2.0

"""Every shipped profile gives exactly the recorded figures on every shipped trace and scenario.

A change that alters them shows in review as a change of these files. To write them anew:
``NUMAD_UPDATE_GOLDEN=1 python -m pytest tests/golden``
"""

import functools
import json
import os
from pathlib import Path

import pytest

from numad_py.cli.replaying import Case, Conditions, replayed
from numad_py.sim import report, script

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent
PROFILES = sorted(path.stem for path in (ROOT / "policies").glob("*.yaml"))
TRACES = sorted((ROOT / "sim" / "traces").glob("*.jsonl*"))
SCENARIOS = sorted((ROOT / "sim" / "scenarios").glob("*.yaml"))
PLAYED = [*TRACES, *(path for path in SCENARIOS if path.stem != "two-nodes")]  # of which there is a trace
UPDATE = "NUMAD_UPDATE_GOLDEN" in os.environ


def name_of(path):
    return path.name.partition(".")[0]


@functools.cache
def figures(path):
    """Give every profile's figures on one trace or scenario, as the command line would."""
    case = Case(path, Conditions(tuple(PROFILES)), None if path in TRACES else script.document(path))
    return report.values(replayed(case, lambda _: None).scores)


@pytest.mark.parametrize("path", PLAYED, ids=name_of)
@pytest.mark.parametrize("profile", PROFILES)
def test_the_figures_are_exactly_as_recorded(profile, path):
    golden = GOLDEN / profile / f"{name_of(path)}.json"
    found = figures(path)[profile]
    if UPDATE:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    assert found == json.loads(golden.read_text(encoding="utf-8"))


def test_every_golden_file_has_its_profile_and_what_is_played():
    recorded = {path.relative_to(GOLDEN).with_suffix("").as_posix() for path in GOLDEN.glob("*/*.json")}

    assert recorded == {f"{profile}/{name_of(path)}" for profile in PROFILES for path in PLAYED}


@pytest.mark.parametrize("profile", PROFILES)
def test_no_profile_is_worse_than_doing_nothing_by_more_than_three_per_cent(profile):
    golden = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (GOLDEN / profile).glob("*.json")
    }

    worse = {
        name: figures
        for name, figures in golden.items()
        if max(figures["modelled_time_to_hold"], figures["perfect_to_hold"]) > 1.03
    }

    assert len(golden) == len(PLAYED)
    assert worse == {}
