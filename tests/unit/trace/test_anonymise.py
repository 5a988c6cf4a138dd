# SPDX-License-Identifier: Apache-2.0

"""An anonymised trace tells no name, path, id or address, and a replay cannot see the difference."""

import json
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from numad_py.model import Ending, Held, MoveTasks, Outcome, ProcessKey, Reason, Refusal, Skipped
from numad_py.trace import Anonymiser, Header, Writer, read
from tests.builders import (
    GIB,
    HEAP,
    TWO_NODES,
    drawn_runs,
    job,
    move,
    plain,
    process,
    regions,
    snapshot,
    tick,
)

HEADER = Header(TWO_NODES, "6.1.0-acme-18-amd64", "5b0e2f00-bead", 1.7e9, keyframe_every=2)
SECRET = b"of this recording alone"
PID = 8_888_801

SECRETS = [
    "acme-train",
    "acme.slice",
    "acme-profile",
    "acme-daemon",
    "5b0e2f00",
    "acme-18",
    str(PID),
    str(HEAP),
    str(HEAP + 5 * 4096),
    "7777777",
    "123456789",
    "1700000000",
]


def a_run():
    one = process(
        PID, regions=regions({0: 5}, {0: 6}), cpu_s={0: 1.0}, comm="acme-train", start_ticks=123456789
    )
    stuck = Outcome(
        Ending.DEADLINE,
        stayed_start=one.regions.start[:1],
        stayed_end=one.regions.end[:1],
        reached=HEAP + 4096,
        detail=f"acme-train at {HEAP}",
    )
    looked = snapshot(
        5.0,
        jobs=[job(one, cgroup_id=7_777_777, path="/acme.slice/acme-train", profile="acme-profile")],
        skipped=[Skipped(one.key, "acme-daemon", f"cannot read /proc/{PID}/numa_maps of acme-daemon")],
    )
    held = [Held(one.key, 4096, Refusal.RATE)]
    return [
        tick(replace(looked, time_s=time_s), moves=[move(one)], outcomes=[stuck], held=held)
        for time_s in (5.0, 6.0, 7.0)
    ]


def text_of(path, run, anonymiser):
    with Writer(path, anonymiser.header(HEADER)) as writer:
        for each in run:
            writer.write(anonymiser.tick(each))
    return path.read_text()


def test_no_name_path_id_or_address_is_in_the_bytes(tmp_path):
    with Writer(tmp_path / "plain", HEADER) as writer:
        for each in a_run():
            writer.write(each)

    text = text_of(tmp_path / "hidden", a_run(), Anonymiser(SECRET))

    assert all(secret in (tmp_path / "plain").read_text() for secret in SECRETS)
    assert not [secret for secret in SECRETS if secret in text]
    assert SECRET.decode() not in text


def test_the_header_says_so_and_keeps_what_a_replay_needs():
    header = Anonymiser(SECRET).header(HEADER)

    assert header.anonymised
    assert header.kernel == "6.1.0"
    assert header.topology == TWO_NODES
    assert (
        replace(HEADER, kernel="acme").kernel
        != Anonymiser(SECRET).header(replace(HEADER, kernel="acme")).kernel
    )


def test_shifts_keep_order_distances_and_alignment():
    before = a_run()[0]
    after = Anonymiser(SECRET).tick(before)
    old, new = (each.snapshot.jobs[0].processes[0].regions for each in (before, after))

    shift = int(new.start[0]) - int(old.start[0])

    assert shift > 0
    assert shift % GIB == 0
    assert np.array_equal(new.start - old.start, np.full(2, shift, np.uint64))
    assert np.array_equal(new.end - old.end, np.full(2, shift, np.uint64))


def test_plans_and_outcomes_are_shifted_with_their_process():
    after = Anonymiser(SECRET).tick(a_run()[0])
    found = after.snapshot.jobs[0].processes[0]
    wish, outcome = after.plan.moves[0], after.outcomes[0]

    assert wish.process == found.key == after.plan.held[0].process == after.snapshot.skipped[0].process
    assert wish.start.tolist() == found.regions.start.tolist()
    assert wish.end.tolist() == found.regions.end.tolist()
    assert outcome.stayed_start.tolist() == found.regions.start[:1].tolist()
    assert outcome.stayed_end.tolist() == found.regions.end[:1].tolist()
    assert outcome.reached == found.regions.start[0] + 4096


def test_a_wish_to_move_threads_names_the_same_process_as_before():
    before = a_run()[0]
    wish = MoveTasks(before.plan.moves[0].process, (1,), Reason.TASKS_FOLLOW_MEMORY)

    outcome = Outcome(Ending.REFUSED, moved_threads=2, detail="secret")

    plan = replace(before.plan, task_moves=(wish,))
    after = Anonymiser(SECRET).tick(replace(before, plan=plan, task_outcomes=(outcome,)))

    assert after.plan.task_moves == (replace(wish, process=after.plan.moves[0].process),)
    assert [(told.ending, told.moved_threads) for told in after.task_outcomes] == [(Ending.REFUSED, 2)]
    assert "secret" not in str(after.task_outcomes)


def test_nowhere_reached_stays_nowhere():
    one = process(pages={0: 1})

    after = Anonymiser(SECRET).tick(tick(moves=[move(one)]))

    assert after.outcomes[0].reached == 0


def test_equal_names_stay_equal_and_others_differ():
    comms = ["python3", "python3", "ruby"]
    looked = snapshot(processes=[process(10 + pid, comm=comm) for pid, comm in enumerate(comms)])

    after = Anonymiser(SECRET).tick(tick(looked)).snapshot.jobs[0].processes

    assert after[0].comm == after[1].comm != after[2].comm
    assert [each.key for each in after] == sorted({each.key for each in after})
    assert max(each.key.pid for each in after) <= 4


def test_cgroups_keep_their_tree():
    paths = ["/a.slice/one", "/a.slice/two"]
    looked = snapshot(jobs=[job(cgroup_id=9, path=path) for path in paths])

    one, two = (each.path.split("/") for each in Anonymiser(SECRET).tick(tick(looked)).snapshot.jobs)

    assert one[:2] == two[:2]
    assert one[2] != two[2]


def test_the_secret_is_what_makes_the_names():
    one, other = (Anonymiser(secret).tick(a_run()[0]) for secret in (SECRET, b"another"))

    assert one.snapshot.jobs[0].path != other.snapshot.jobs[0].path
    assert plain(one) != plain(other)


def test_profiles_that_ship_with_us_keep_their_names():
    looked = snapshot(jobs=[job(profile="default"), job(profile="acme")])

    jobs = Anonymiser(SECRET, frozenset({"default"})).tick(tick(looked)).snapshot.jobs

    assert jobs[0].profile == "default"
    assert jobs[1].profile != "acme"


def shape(each):
    """Give all of a tick that must not change: everything but names, ids and where addresses begin."""
    processes = [process for job in each.snapshot.jobs for process in job.processes]
    return (
        each.snapshot.time_s,
        plain(each.snapshot.memory),
        [[plain(getattr(p.regions, name)) for name in ("pages", "kind", "anon_pages")] for p in processes],
        [(p.regions.end - p.regions.start).tolist() for p in processes],
        [np.diff(p.regions.start).tolist() for p in processes],
        [(plain(p.threads.cpu), plain(p.threads.cpu_s), p.nodes_allowed) for p in processes],
        [(wish.targets, wish.limit_bytes, (wish.end - wish.start).tolist()) for wish in each.plan.moves],
        [(outcome.ending, outcome.moved_bytes, outcome.failed) for outcome in each.outcomes],
    )


def keys(run):
    """Give the number of each process in the order of first appearance."""
    seen = [p.key for each in run for job in each.snapshot.jobs for p in job.processes]
    return [list(dict.fromkeys(seen)).index(key) for key in seen]


@settings(max_examples=50)
@given(run=drawn_runs(), secret=st.binary(min_size=16, max_size=64))
def test_all_that_a_replay_looks_at_is_kept(run, secret):
    anonymiser = Anonymiser(secret)

    hidden = [anonymiser.tick(each) for each in run]

    assert [shape(each) for each in hidden] == [shape(each) for each in run]
    assert keys(hidden) == keys(run)


def test_numbers_stay_exact_for_readers_that_take_them_for_doubles(tmp_path):
    top = process(regions=regions({0: 1}, start=(1 << 47) - 8192))

    text_of(tmp_path / "t", [tick(snapshot(processes=[top]))], Anonymiser(SECRET))
    line = json.loads((tmp_path / "t").read_text().splitlines()[1])

    assert line["jobs"][0]["processes"][0]["regions"]["end"][0] < 1 << 53


def test_an_anonymised_trace_reads_like_any_other(tmp_path):
    text_of(tmp_path / "t", a_run(), Anonymiser(SECRET))

    header, ticks = read(tmp_path / "t")

    assert header.anonymised
    assert [each.snapshot.jobs[0].processes[0].key for each in ticks] == [ProcessKey(2, 0)] * 3
