# SPDX-License-Identifier: Apache-2.0

"""``simulate`` runs policies of anybody's own: a class, an entry point, a program; what is wrong with one is a sentence."""

import gc
import itertools
import sys
from pathlib import Path

import pytest

from numad_py.cli import outsiders
from numad_py.cli.outsiders import PolicyError
from numad_py.profile import ProfileError
from tests.unit.cli.test_simulate import figures, ran, short

BEGIN = "from numad_py.model import MovePages, Plan, Reason\nfrom numad_py.roles import Policy\n"
HOLD = f"{BEGIN}class Mine(Policy):\n    def decide(self, snapshot):\n        return Plan()\n"
PATIENT = f"""{BEGIN}
from dataclasses import dataclass, field

@dataclass
class Mine(Policy):
    target: int = 0
    looks: dict = field(default_factory=dict, init=False)

    def decide(self, snapshot):
        moves = []
        for process in snapshot.processes:
            rows = process.regions.take(process.regions.movable)
            moves.append(MovePages(process.key, rows.start, rows.end, rows.page_bytes, (1 - self.target,),
                                   (self.target,), rows.movable_bytes[1 - self.target], Reason.SPREAD))
        return Plan(tuple(moves))
"""
ANSWER = """
import json, sys
for line in sys.stdin:
    told = json.loads(line)
    if told["type"] == "tick":
        print(json.dumps({"number": told["number"], **WISH}), flush=True)
"""
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    outsiders.entry_points.cache_clear()
    yield
    outsiders.entry_points.cache_clear()


@pytest.fixture
def module(tmp_path):
    """Give a function that writes a module which no test has imported before, and gives its name."""

    def write(text):
        name = f"policy_of_mine_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


@pytest.fixture
def program(tmp_path):
    """Give a function that writes a program, and gives the name of the policy that it is."""

    def write(text):
        path = tmp_path / f"program-{next(_numbers)}.py"
        path.write_text(text)
        return f"stdio:{sys.executable} {path}"

    return write


def refusal(tmp_path, name):
    """Give the sentence that a replay ends in."""
    with pytest.raises(PolicyError) as refused:
        ran(short(tmp_path / "a.jsonl", count=4), "--policy", name)
    return str(refused.value)


def test_a_class_in_a_module_here_is_replayed(module, tmp_path):
    name = f"{module(PATIENT)}:Mine"

    (replayed,) = figures(short(tmp_path / "a.jsonl", count=8), "--policy", name)

    assert list(replayed["policies"]) == ["hold", name]
    assert replayed["policies"][name]["moved_bytes"] > 0


def test_the_fields_of_a_dataclass_are_parameters_that_a_sweep_may_set(module, tmp_path):
    name = f"{module(PATIENT)}:Mine"

    points = figures(
        short(tmp_path / "a.jsonl", count=8),
        *("--policy", name, "--set", f"{name}.target=0,1", "--set", f"{name}.guard.limit_mb_per_s=0,1000"),
    )

    moved = {tuple(each["settings"].values()): each["policies"][name]["moved_bytes"] for each in points}
    assert moved[0, 0] == moved[1, 0] == 0
    assert 0 < moved[0, 1000] != moved[1, 1000] > 0


def test_what_it_remembers_is_no_parameter(module, tmp_path):
    name = f"{module(PATIENT)}:Mine"

    with pytest.raises(ProfileError, match=f"found no '{name}.looks'"):
        ran(short(tmp_path / "a.jsonl"), "--policy", name, "--set", f"{name}.looks=1")


def test_results_of_code_that_may_change_are_not_kept(module, tmp_path):
    name = f"{module(PATIENT)}:Mine"
    words = ("--policy", name, "--set", f"{name}.target=0", "--into", tmp_path / "results")

    shown = ran(short(tmp_path / "a.jsonl"), *words, fails=True).output

    assert "keeps nothing of policies of your own" in shown
    assert not (tmp_path / "results").exists()


def test_what_a_package_says_it_has_is_found_by_name(module, tmp_path):
    installed = tmp_path / "mine-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: mine\nVersion: 1.0\n")
    value = f"{module(HOLD)}:Mine"
    (installed / "entry_points.txt").write_text(f"[numad_py.policies]\nours = {value}\nhold = {value}\n")
    sys.path.insert(0, str(tmp_path))

    (replayed,) = figures(short(tmp_path / "a.jsonl"), "--policy", "ours")

    assert list(replayed["policies"]) == ["hold", "ours"]
    assert not outsiders.is_one("hold")


def test_many_processes_give_the_same_figures(module, tmp_path):
    paths = [short(tmp_path / f"{name}.jsonl", count=8) for name in "ab"]
    name = f"{module(PATIENT)}:Mine"

    assert figures(*paths, "--policy", name, "--jobs", "2") == figures(
        *paths, "--policy", name, "--jobs", "1"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no 'Mine'"),
        ("Mine = 7", "Mine is no class that extends numad_py.roles.Policy"),
        ("class Mine: pass", "Mine is no class that extends numad_py.roles.Policy"),
        ("\ndef f(:", ", line 2: importing it raised SyntaxError: "),
        ("\n\n1 / 0", ", line 3: importing it raised ZeroDivisionError: division by zero"),
        ("import nowhere_to_be_found", ", line 1: importing it raised ModuleNotFoundError: No module named"),
        (f"{HOLD}    def __init__(self, figure): pass", "making it raised TypeError: "),
        (HOLD.replace("Plan()", "1 / 0"), ", line 5: decide raised ZeroDivisionError: division by zero"),
        (HOLD.replace("Plan()", "[]"), "decide gave list, a Plan is needed"),
        (HOLD.replace("Plan()", "Plan((7,))"), "reading its plan raised AttributeError: "),
        (f"{HOLD}    def review(self, tick):\n        raise OSError(7)", ", line 7: review raised OSError: 7"),
        (PATIENT.replace("(self.target,)", "(7,)"), "decide wished what cannot be: there is no node 7"),
        (f"{PATIENT}    target: int = 1 / 0", "importing it raised ZeroDivisionError"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_class_is_told_with_its_file(module, tmp_path, text, why):
    name = module(text)

    told = refusal(tmp_path, f"{name}:Mine")

    assert told.startswith(f"{name}:Mine: {tmp_path / name}.py")
    assert why in told


@pytest.mark.parametrize(
    "name", ["nowhere_to_be_found:Mine", "nowhere.to.be.found:Mine", "json.nowhere:Mine"]
)
def test_a_module_that_is_not_there_is_told(tmp_path, name):
    module = name.partition(":")[0]

    assert refusal(tmp_path, name) == f"{name}: there is no module '{module}', in this folder or installed"


def test_what_is_missing_in_a_package_is_told_with_the_file_that_wants_it(tmp_path):
    (tmp_path / "package_of_mine").mkdir()
    (tmp_path / "package_of_mine/__init__.py").write_text("import nowhere_to_be_found")

    told = refusal(tmp_path, "package_of_mine.policy:Mine")

    assert "importing it raised ModuleNotFoundError: No module named 'nowhere_to_be_found'" in told


def test_a_program_is_replayed_as_a_class_is(module, program, tmp_path):
    trace = short(tmp_path / "a.jsonl", count=8)
    wish = '{"moves": [{"process": p["key"], "targets": [0], "reason": "spread"} for j in told["jobs"] for p in j["processes"]]}'
    names = f"{module(PATIENT)}:Mine", program(ANSWER.replace("WISH", wish))

    (replayed,) = figures(trace, "--policy", names[0], "--policy", names[1])

    of_class, of_program = (replayed["policies"][name]["moved_bytes"] for name in names)
    assert of_class == of_program > 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("raise SystemExit(3)", "it ended, with status 3"),
        ("print('garbage', flush=True)\ninput()", "not an answer: JSON is malformed"),
        (ANSWER.replace("WISH", '{"moves": [{"process": [1, 1], "targets": [0]}]}'), "process [1, 1] is none of those"),
        ("import os, time\nos.close(0)\nos.close(1)\ntime.sleep(60)", "it ended"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_program_is_told_with_its_time(program, tmp_path, text, why):
    name = program(text)

    told = refusal(tmp_path, name)

    assert told.startswith(f"{name}: at ")
    assert why in told


def test_a_program_that_never_answers_is_told(program, tmp_path, monkeypatch):
    monkeypatch.setattr(outsiders, "PATIENCE_S", 0.1)

    assert "it did not answer within 0.1 s" in refusal(tmp_path, program("while True: input()"))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("stdio:", "names no command, as stdio:./mine does"),
        ("stdio:./nowhere", "cannot be started: [Errno 2] No such file or directory: './nowhere'"),
        ("stdio:'", "cannot be started: No closing quotation"),
    ],
)
def test_a_command_that_is_none_is_told(tmp_path, name, why):
    assert why in refusal(tmp_path, name)


def test_no_program_outlives_its_replay(program, tmp_path):
    name = program("import os\nopen('pid', 'w').write(str(os.getpid()))\n" + ANSWER.replace("WISH", "{}"))

    ran(short(tmp_path / "a.jsonl"), "--policy", name)

    gc.collect()
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def test_a_profile_whose_policy_the_daemon_asks_is_to_be_named_by_its_command(tmp_path):
    (tmp_path / "mine.yaml").write_text("policy: external\n")

    with pytest.raises(ProfileError, match="simulate it by its command: --policy 'stdio:COMMAND'"):
        ran(short(tmp_path / "a.jsonl"), "--policy", tmp_path / "mine.yaml")


def test_no_profile_names_code(tmp_path):
    (tmp_path / "mine.yaml").write_text("policy: os:system\n")

    with pytest.raises(ProfileError, match=r"found 'os:system', allowed is .*external$"):
        outsiders.load(str(tmp_path / "mine.yaml"))
