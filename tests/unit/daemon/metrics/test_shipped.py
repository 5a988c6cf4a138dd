# SPDX-License-Identifier: Apache-2.0

"""What is shipped for operators names the metrics that there are, and promtool accepts it."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from numad_py.act.gate import Gate
from numad_py.daemon.metrics import exposition, table
from numad_py.daemon.metrics.counting import Counting
from numad_py.daemon.metrics.table import Kind
from numad_py.model import Ending, Held, Outcome, ProcessKey, Refusal, Skipped
from tests.builders import MIB, move, process, tick

ROOT = Path(__file__).parents[4]
RULES = ROOT / "systemd/prometheus/numad-py.rules.yml"
DASHBOARD = json.loads((ROOT / "systemd/grafana/dashboard.json").read_text())

PARTS_OF_A_HISTOGRAM = ("_bucket", "_count", "_sum")
NAMES = {each.name for each in table.ALL if each.kind is not Kind.HISTOGRAM} | {
    each.name + part for each in table.ALL if each.kind is Kind.HISTOGRAM for part in PARTS_OF_A_HISTOGRAM
}
WORDS = {"ending": set(Ending), "why": set(Refusal)}

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool, of Debian's package prometheus"
)


def alerts():
    """Give each alert's name and expression."""
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return {rule["alert"]: rule["expr"] for rule in rules}


def queries():
    """Give each query of the dashboard, by panel, with a value for every variable."""
    asked = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    }
    asked |= {each["name"]: each["query"]["query"] for each in DASHBOARD["templating"]["list"][1:]}
    return {name: query.replace("$__rate_interval", "1m") for name, query in asked.items()}


EXPRESSIONS = alerts() | queries()


def row(metric):
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels + ' ' if labels else ''}| {metric.help} |"


def exposed():
    """Give all that can be told of a turn."""
    gate, member = Gate(), process(pages={0: 900}, cpu_s={1: 1.0})
    gate.close("operator", 'paused: "why"')
    others = [SimpleNamespace(profile="mine", missed=1, why="it ended")]
    counting = Counting(gate, lambda: 0, lambda: others)
    outcome = Outcome(Ending.LIMIT, MIB, {"EBUSY": 1}, call_s=(0.01,))
    skipped = [Skipped(ProcessKey(7, 1), "init", "[Errno 13] Permission denied")]
    held = [Held(member.key, MIB, Refusal.RATE)]
    turn = tick(processes=[member], moves=[move(member)], outcomes=[outcome], held=held, skipped=skipped)
    counting.take(turn, 0.003)
    return exposition.text(counting)


def test_the_docs_have_a_row_for_every_metric_in_its_own_words():
    lines = (ROOT / "docs/metrics.md").read_text().splitlines()

    assert [line for line in lines if line.startswith("| `numad_")] == [row(metric) for metric in table.ALL]


def test_the_docs_tell_of_every_alert():
    rows = [
        line for line in (ROOT / "docs/metrics.md").read_text().splitlines() if line.startswith("| `Numad")
    ]

    assert [name for line in rows for name in re.findall(r"`(Numad\w+)`", line)] == list(alerts())


@pytest.mark.parametrize("metric", table.ALL, ids=lambda metric: metric.name)
def test_names_are_as_prometheus_wants_them(metric):
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert "node" not in re.sub("^numad_node_", "", metric.name)
    assert not re.search(r"_(mb|ms|kb|pages_bytes)(_|$)", metric.name)
    assert metric.labels[:1] == ("cgroup",) or "cgroup" not in metric.labels


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_dashboard_and_alerts_ask_for_metrics_and_labels_that_there_are(name):
    expression = EXPRESSIONS[name]
    labels = {"instance", "le", *(label for metric in table.ALL for label in metric.labels)}
    bare = re.sub(r'"[^"]*"', "", expression)

    asked = set(re.findall(r"\bnumad_\w+", bare))
    by = {label for group in re.findall(r"(?:by|on) \(([^)]*)\)", bare) for label in group.split(", ")}
    matched = set(re.findall(r"(\w+)(?:=~|!~|!=|=)(?=[,}])", bare))

    assert asked <= NAMES != set()
    assert by | matched <= labels


@pytest.mark.parametrize("name", alerts())
def test_alerts_name_reasons_and_endings_that_there_are(name):
    told = re.findall(r'(\w+)(?:=~|=)"([^"]*)"', alerts()[name])

    assert all(set(words.split("|")) <= WORDS[label] for label, words in told)


def test_the_dashboard_is_one_that_grafana_imports():
    panels, variables = DASHBOARD["panels"], DASHBOARD["templating"]["list"]

    assert DASHBOARD["schemaVersion"] >= 36
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all({"type", "title", "gridPos", "fieldConfig", "targets"} <= panel.keys() for panel in panels)
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels)
    assert [each["name"] for each in variables] == ["datasource", "instance", "cgroup"]


def test_no_panel_lies_on_another():
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_all_that_is_described_can_be_told_but_what_needs_more_than_one_turn():
    told = set(re.findall(r"^# TYPE (\w+) ", exposed().decode(), re.MULTILINE))

    assert {metric.name for metric in table.ALL} - told == {"numad_postponed_total"}


@promtool
def test_promtool_finds_no_fault_in_what_is_told():
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=exposed(), capture_output=True, check=False
    )

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


@promtool
@pytest.mark.parametrize(
    "words",
    [
        ["check", "rules", "--lint=all", "--lint-fatal", str(RULES)],
        ["test", "rules", str(Path(__file__).with_name("alerts.yml"))],
    ],
    ids=lambda words: words[0],
)
def test_promtool_accepts_the_alerts_and_they_say_what_they_should(words):
    checked = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@promtool
def test_promtool_accepts_what_the_dashboard_asks(tmp_path):
    asked = [query for query in queries().values() if not query.startswith("label_values")]
    rules = [{"record": f"asked:{number}", "expr": query} for number, query in enumerate(asked)]
    (tmp_path / "asked.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    checked = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "asked.yml"], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
