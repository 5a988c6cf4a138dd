# SPDX-License-Identifier: Apache-2.0

"""A page of replays is whole in itself: well nested, without script or network, and safe from hostile names."""

import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import numpy as np
import pytest

from numad_py.model import Accesses, AccessSource, Ending, Outcome, ThreadGroup
from numad_py.sim import html_figures, html_page
from numad_py.sim.columns import POINTS
from numad_py.sim.cost import default_prices
from numad_py.sim.history import MOST_JOBS, MOST_MOVES, Historian
from numad_py.sim.score import Scorer
from tests.builders import GIB, TWO_NODES, job, move, process, regions, tick, topology

VOID = {"meta", "wbr"}
HOSTILE = "<script>alert('1')</script>&\"\udcff\x1b[31m\u202e"


@dataclass
class Parsed(HTMLParser):
    """A document's tags and its text, read by rules that forgive nothing."""

    tags: list[tuple[str, dict]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"{tag} says something twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.texts).split())


def parsed(document):
    parser = Parsed()
    parser.feed(document)
    parser.close()
    assert parser.open == []
    return parser


def replayed(runs, title="a trace: 2 nodes", on=TWO_NODES):
    prices = default_prices(on)
    scores, histories = {}, {}
    for name, ticks in runs.items():
        scorer, historian = Scorer(prices), Historian(prices)
        for each in ticks:
            scorer.add(each)
            historian.add(each)
        scores[name], histories[name] = scorer.score, historian.history
    return html_page.Replay(title, scores, histories)


def run(*, moved=True, comm="python3", path="/train.slice/job", changed=lambda process: process):
    """Two looks between which memory follows, or not."""
    ticks = []
    for time_s in (0, 10):
        late = process(pages={1: 1000} if moved and time_s else {0: 1000}, cpu_s={1: 1.0}, comm=comm)
        outcome = Outcome(Ending.DONE, moved_bytes=4096000, took_s=0.01)
        moves = [move(late)] if moved and not time_s else []
        ticks.append(
            tick(
                time_s=time_s,
                jobs=[job(changed(late), path=path)],
                moves=moves,
                outcomes=[outcome] * len(moves),
            )
        )
    return ticks


def page(**runs):
    return html_page.page([replayed({"hold": run(moved=False), **runs})])


def test_the_document_is_well_nested_and_names_every_trace_policy_and_job():
    first = replayed({"hold": run(moved=False), "near": run()}, "one.jsonl: 2 nodes")
    other = replayed({"hold": run(moved=False, path="/other.slice")}, "two.jsonl: 2 nodes")

    shown = parsed(html_page.page([first, other]))

    for name in (
        "one.jsonl: 2 nodes",
        "two.jsonl: 2 nodes",
        "hold",
        "near",
        "/train.slice/job",
        "/other.slice",
    ):
        assert name in shown.words


def test_nothing_is_fetched_and_nothing_is_run():
    document = page(near=run())

    shown = parsed(document)
    names = {name for _, attributes in shown.tags for name in attributes}
    assert not {"script", "link", "img", "iframe", "object", "embed"} & {tag for tag, _ in shown.tags}
    assert not [name for name in names if name.startswith("on") or name in {"href", "src", "style", "xmlns"}]
    assert not re.search(r"https?:|//[a-z]|url\(|@import|@font-face", document)
    policy = {attributes.get("content") for tag, attributes in shown.tags if tag == "meta"}
    assert "default-src 'none'; style-src 'unsafe-inline'" in policy


def test_names_out_of_a_trace_are_words_and_no_markup():
    replay = replayed(
        {"hold": run(moved=False), HOSTILE: run(comm=HOSTILE, path=HOSTILE)}, f"{HOSTILE}.jsonl: 2 nodes"
    )

    document = html_page.page([replay])

    assert "script" not in {tag for tag, _ in parsed(document).tags}
    assert "<script" not in document
    assert "<script>alert('1')</script>&\"\\udcff\\x1b[31m\\u202e" in parsed(document).words
    document.encode("utf-8")


def test_a_move_is_a_mark_that_tells_its_reason_cost_and_gain_and_a_row_of_a_table():
    words = parsed(page(near=run())).words

    assert "3.91 MB of python3 (1000) from node 0 to 1, memory-follows-cpu; took 0.010 s" in words
    assert "near: 1 moves." in words
    assert "hold: none." in words


def test_every_picture_has_a_title_and_its_figures_stand_in_a_table():
    shown = parsed(page(near=run()))

    pictures = [
        attributes for tag, attributes in shown.tags if tag == "svg" and "aria-hidden" not in attributes
    ]
    assert len(pictures) == 1 + 2 + 2
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    assert "Resident bytes by node at five moments" in shown.words
    assert "The largest regions, and how much of each was remote on average" in shown.words


def test_the_policy_with_the_shortest_modelled_time_is_the_first():
    words = parsed(page(near=run())).words

    assert "first near hold local at the end" in words


def test_a_trace_without_accesses_says_that_bytes_are_shown():
    assert "The trace has no accesses" in parsed(page()).words


def test_a_trace_with_accesses_says_from_when_on_they_are_shown():
    def seen(late):
        rows = regions({0: 1000})
        group = ThreadGroup(1, np.array([1000]), np.array([0.0, 1.0]))
        told = Accesses(AccessSource.PEBS, (group,), rows.start, rows.end, np.array([[9]]), None, 1.0)
        return replace(late, accesses=told)

    words = parsed(page(seen=run(changed=seen), hold=run(moved=False, changed=seen))).words

    assert "The share of accesses that another node would serve" in words
    assert "accesses, from 0 s" in words


def test_a_run_of_one_look_and_one_without_jobs_are_pages_too():
    alone = [tick(processes=[process(pages={0: 1}, cpu_s={0: 1.0})])]

    parsed(html_page.page([replayed({"hold": alone}), replayed({"hold": [tick(), tick(time_s=101.0)]})]))


def test_jobs_at_the_same_path_are_told_apart():
    jobs = [job(process(pid=number, pages={0: 9}), cgroup_id=number) for number in (1, 2)]

    words = parsed(html_page.page([replayed({"hold": [tick(jobs=jobs)]})])).words

    assert "/train.slice/job (cgroup 1)" in words
    assert "/train.slice/job (cgroup 2)" in words


def test_a_page_of_a_long_and_busy_run_stays_small():
    on = topology(nodes=8)
    generator = np.random.default_rng(0)

    def look(at):
        jobs = [
            job(
                process(
                    pid=number + 1,
                    regions=regions(
                        *(dict(enumerate(row)) for row in generator.integers(0, 9, (4, 8))), on=on
                    ),
                    cpu_s={int(generator.integers(8)): 1.0},
                    on=on,
                ),
                cgroup_id=number,
                path=f"/{number}",
            )
            for number in range(MOST_JOBS)
        ]
        moves = [move(each.processes[0]) for each in jobs]
        return tick(time_s=at, jobs=jobs, moves=moves, on=on)

    document = html_page.page([replayed({"hold": [look(at) for at in range(2 * POINTS)]}, on=on)])

    assert len(document) < 2 << 20
    assert parsed(document).words.count("memory-follows-cpu") <= 2 * MOST_MOVES


@pytest.mark.parametrize(
    ("amount_bytes", "written"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1005 << 20, "0.98 GB"),
        (4096, "4.00 KB"),
        (300 << 20, "300 MB"),
        (GIB * 3 // 2, "1.50 GB"),
    ],
)
def test_sizes_are_written_in_three_digits(amount_bytes, written):
    assert html_figures.size(amount_bytes) == written
