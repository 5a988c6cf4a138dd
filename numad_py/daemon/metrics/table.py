# SPDX-License-Identifier: Apache-2.0

"""Every metric that there is, described by itself; docs/metrics.md has the same table, which a test compares."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """How a metric behaves, in Prometheus's words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, eq=False)
class Metric:
    """One metric; the label ``cgroup`` comes first where there is one, since what has it ends with its job."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


# A job's label is its cgroup, not "job": Prometheus has that name for what it scrapes, and would rename ours.
_BY_NODE: Final = ("cgroup", "profile", "node")

RESIDENT: Final = Metric(
    "numad_job_resident_bytes",
    Kind.GAUGE,
    "Resident memory of the job's processes on each node.",
    _BY_NODE,
)
REMOTE: Final = Metric(
    "numad_job_remote_bytes",
    Kind.GAUGE,
    "The part of it whose process uses the CPUs of other nodes; memory on nodes without CPUs is not counted.",
    _BY_NODE,
)
REMOTE_MOVABLE: Final = Metric(
    "numad_job_remote_movable_bytes",
    Kind.GAUGE,
    "The part of that which may be moved: without a mempolicy, and no file that others map too.",
    _BY_NODE,
)
HELD: Final = Metric(
    "numad_job_held_bytes",
    Kind.GAUGE,
    "What the guard held back of the moves wished for in the last turn; 0 for moves of tasks.",
    ("cgroup", "why"),
)
MOVED: Final = Metric(
    "numad_job_moved_bytes_total",
    Kind.COUNTER,
    "Bytes verified on the node they were moved to; a move to several nodes counts an equal part for each.",
    ("cgroup", "node"),
)
MOVED_THREADS: Final = Metric(
    "numad_job_moved_threads_total",
    Kind.COUNTER,
    "Threads that were given the CPUs of other nodes.",
    ("cgroup",),
)
MOVES: Final = Metric(
    "numad_job_moves_total",
    Kind.COUNTER,
    "Moves by why they were wished for and how they ended; all end as dry-run while not acting.",
    ("cgroup", "reason", "ending"),
)
JUDGED: Final = Metric(
    "numad_job_judged_total",
    Kind.COUNTER,
    "What the guard found of the job's moves, by its own speed before and after: taken back and ping-pong are undone.",
    ("cgroup", "verdict"),
)
FAILED: Final = Metric(
    "numad_job_failed_pages_total",
    Kind.COUNTER,
    "Pages that did not move, by the kernel's errno name, or unmovable; a page counts each time it is tried.",
    ("cgroup", "why"),
)
STALL: Final = Metric(
    "numad_job_stall_seconds_total",
    Kind.COUNTER,
    "Stall caused, at most: the time of all moving calls that returned, in each of which pages are out of reach.",
    ("cgroup",),
)
POSTPONED: Final = Metric(
    "numad_postponed_total",
    Kind.COUNTER,
    "Processes that a look wanted to read and put off to keep in its budget; cgroup is empty for those never read.",
    ("cgroup",),
)
TAKEN_BACK: Final = Metric(
    "numad_taken_back_total",
    Kind.COUNTER,
    "What was taken back: of affinity, threads that were given back the CPUs they had, whatever job they are in.",
    ("what",),
)

POLICY_MISSED: Final = Metric(
    "numad_policy_missed_total",
    Kind.COUNTER,
    "Turns in which a policy of others gave no answer that could be taken.",
    ("profile",),
)

ACTING: Final = Metric("numad_acting", Kind.GAUGE, "1 while pages and tasks may be moved, else 0.")
NOT_ACTING: Final = Metric(
    "numad_not_acting", Kind.GAUGE, "1 for each that speaks against acting now, and why.", ("who", "why")
)
PAUSED: Final = Metric("numad_paused", Kind.GAUGE, "1 while paused by an operator, else 0.")
POLICY_REPLACED: Final = Metric(
    "numad_policy_replaced",
    Kind.GAUGE,
    "1 while another policy stands in for one of others that does not answer, else 0.",
    ("profile",),
)
JOBS: Final = Metric("numad_jobs", Kind.GAUGE, "Labelled jobs, in the last look.")
SKIPPED: Final = Metric(
    "numad_skipped_processes", Kind.GAUGE, "Processes of jobs that could not be looked at.", ("why",)
)
CALL: Final = Metric("numad_call_seconds", Kind.HISTOGRAM, "Time of one moving call.")
LOOK: Final = Metric("numad_look_seconds", Kind.HISTOGRAM, "Time of one look at the machine.")
TURNS: Final = Metric("numad_turns_total", Kind.COUNTER, "Turns of the loop.")
LAST_TURN: Final = Metric(
    "numad_last_turn_timestamp_seconds", Kind.GAUGE, "When the last turn ended, since the epoch."
)
CORE_SHARE: Final = Metric(
    "numad_core_share", Kind.GAUGE, "Share of one core used over the last minute, moves left out."
)
CPU: Final = Metric("numad_cpu_seconds_total", Kind.COUNTER, "CPU time used by the daemon, moves included.")
MEMORY: Final = Metric("numad_memory_bytes", Kind.GAUGE, "Resident memory of the daemon.")
BUILD: Final = Metric("numad_build_info", Kind.GAUGE, "Always 1; the label is the version.", ("version",))

NODE_FREE: Final = Metric("numad_node_free_bytes", Kind.GAUGE, "Free memory of the node.", ("node",))
NODE_ROOM: Final = Metric(
    "numad_node_room_bytes",
    Kind.GAUGE,
    "Free memory above the high watermark, and clean inactive page cache; a profile lets less than that be filled.",
    ("node",),
)

ALL: Final = tuple(each for each in globals().copy().values() if isinstance(each, Metric))
