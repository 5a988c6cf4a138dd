# SPDX-License-Identifier: Apache-2.0

"""What the simulator foretells from a trace is what happens on a real kernel.

The same late-bound job is run under `hold` and under `default`. From each run's trace alone the simulator says
what the other policy would have come to; the observer says what it did come to. Both traces, anonymised, are
left in the folder that the guest shares with the host: those in sim/traces/ were made so.
"""

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from numad_py import profiles, trace
from numad_py.daemon.service import ACTING_SHARE
from numad_py.sim import cost, replay
from numad_py.sim.score import SETTLED_SHARE
from tests.vm import observer
from tests.vm.running import PATIENCE_S, REST

LEAST_S = 15.0
BEGUN_SHARE = 0.1  # local; Python itself has less than that where it runs later
PERIOD_S = 1.0
BOUND_TO = 1


@dataclass(frozen=True)
class Run:
    """What the observer saw of a run, in seconds from the label on, and the run's trace."""

    settled_s: float | None
    local_share: float
    trace: Path


@pytest.fixture
def run(job, daemon):
    """Run a late-bound job for a while under a profile."""

    def live(profile):
        service = daemon(mode="act", period_s=PERIOD_S)
        group = job(profile)
        workload = group.start("late-bound", "--mb=100", REST)
        workload.tell("bind")
        labelled_s = time.monotonic()
        group.label(profile)
        settled_s = settled(workload.pid, labelled_s)
        local_share = observer.anonymous_share(workload.pid, BOUND_TO)
        service.stop()
        group.remove()  # so that the next run is alone
        return Run(settled_s, local_share, anonymised(service.trace_path, f"late-bound-{profile}.jsonl.zst"))

    return live


def settled(pid, from_s):
    """Watch until it has settled, or does not begin to; give the time since when, None for never."""
    since_s, share = None, 0.0
    while (now_s := time.monotonic() - from_s) < (
        PATIENCE_S if BEGUN_SHARE < share < SETTLED_SHARE else LEAST_S
    ):
        share = observer.anonymous_share(pid, BOUND_TO)
        since_s = (since_s or now_s) if share >= SETTLED_SHARE else None
        time.sleep(0.1)
    return since_s


def anonymised(path, name):
    """Write the trace anew, as it can be published, where it outlives the guest."""
    header, ticks = trace.read(path)
    hidden = trace.Anonymiser(secrets.token_bytes(32), frozenset(profiles.names()))
    out = Path(os.environ["NUMAD_VM_FOLDER"]) / name
    out.unlink(missing_ok=True)
    with trace.Writer(out, hidden.header(header)) as writer:
        for tick in ticks:
            writer.write(hidden.tick(tick))
    return out


def foretold(path, profile):
    """Replay the trace under a profile, with the daemon's own deadline; give the score."""
    header, ticks = trace.read(path)
    policies = {profile: profiles.build(profiles.load(profile))}
    deadline_s = ACTING_SHARE * PERIOD_S
    return replay.scores(ticks, policies, cost.prices_for(header), deadline_s=deadline_s)[profile]


def settle_s(score):
    """Count from the label, as the observer does: the first look comes half a period later on average."""
    return None if score.worst_settle_s is None else score.worst_settle_s + PERIOD_S / 2


def test_what_each_of_two_policies_comes_to_is_foretold_from_the_trace_of_the_other(run, promise):
    hold, default = run("hold"), run("default")

    from_hold, from_default = foretold(hold.trace, "default"), foretold(default.trace, "hold")

    for name, real, told in (("default", default, from_hold), ("hold", hold, from_default)):
        print(f"\n{name}: local {real.local_share:.3f}, foretold {told.local_share_end:.3f}; ", end="")
        print(f"settled {real.settled_s}, foretold {settle_s(told)} s after the label")
    print(f"a page: {trace.read(hold.trace)[0].move_4k_page_ns / 1e3:.1f} us", end="")
    assert from_hold.local_share_end == pytest.approx(default.local_share, abs=0.05)
    assert from_default.local_share_end == pytest.approx(hold.local_share, abs=0.05)
    assert default.settled_s is not None
    off = max(default.settled_s / settle_s(from_hold), settle_s(from_hold) / default.settled_s)
    promise("settle time, off by a factor of", off, at_most=2)
    assert (hold.settled_s, settle_s(from_default)) == (None, None)
