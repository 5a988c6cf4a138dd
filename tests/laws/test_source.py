# SPDX-License-Identifier: Apache-2.0

"""What imports cannot show is read off the source: pickles, impure calls, affinities."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "numad_py"
EVERYWHERE = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
PURE = [
    *(PACKAGE / f"{name}.py" for name in ("model", "topology")),
    *(PACKAGE / "guard").rglob("*.py"),
    *(PACKAGE / "policies").rglob("*.py"),
    *(PACKAGE / "sim" / "baselines").rglob("*.py"),
]

PICKLES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
IMPURE_CALLS = {"__import__", "breakpoint", "eval", "exec", "input", "open", "print"}
IMPURE_NUMPY = {"fromfile", "genfromtxt", "load", "loadtxt", "memmap", "random", "save", "savetxt", "savez"}
AFFINITY = {"cpu_affinity", "pthread_setaffinity_np", "sched_setaffinity"}
CPUSET_FILE = re.compile(r"cpuset\.(cpus|mems)")
WRITES = {"pwrite", "write", "write_bytes", "write_text", "writelines"}


def pickles(source):
    """Name the modules imported that read or write code as data."""
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (name for name in names if name.partition(".")[0] in PICKLES)


def impurities(source):
    """Name the calls that look, speak or throw dice."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
                yield name
            case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=name) if name in IMPURE_NUMPY:
                yield name


def affinity_changes(source):
    """Name what could change where a thread may run, or where a cpuset lets it."""
    names = {getattr(node, "attr", getattr(node, "id", "")) for node in ast.walk(ast.parse(source))}
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    yield from sorted(names & AFFINITY)
    if any(CPUSET_FILE.search(text) for text in texts if isinstance(text, str)):
        yield from (f"{name} beside a cpuset file" for name in sorted(names & WRITES))


class WithoutOwnAffinity(ast.NodeTransformer):
    """Leaves out calls that change the affinity of the thread that makes them."""

    def visit_Call(self, call):
        return ast.Constant(None) if ast.unparse(call).startswith("os.sched_setaffinity(0, ") else call


def others_affinity_changes(source):
    """Name what could change an affinity other than the caller's own."""
    return affinity_changes(ast.unparse(WithoutOwnAffinity().visit(ast.parse(source))))


def offences(check, paths):
    """Give every offence with its file."""
    return [f"{path.relative_to(ROOT)}: {name}" for path in paths for name in check(path.read_text())]


def test_no_file_imports_a_pickle():
    assert offences(pickles, EVERYWHERE) == []


def test_policies_guard_and_values_neither_look_nor_throw_dice():
    assert offences(impurities, PURE) == []


def test_one_module_changes_an_affinity_and_who_calls_it_keeps_a_journal():
    """A mask that nobody restores outlives the daemon, and the job's children inherit it.

    So nothing else changes one, but a thread its own, which ends with it.
    """
    door = PACKAGE / "kernel" / "migration.py"
    own = {PACKAGE / "calibrate" / "threads.py", PACKAGE / "daemon" / "housekeeping.py"}
    callers = {path.name for path in PACKAGE.rglob("*.py") if "migration.set_affinity(" in path.read_text()}

    assert offences(affinity_changes, set(PACKAGE.rglob("*.py")) - {door, *own}) == []
    assert list(affinity_changes(door.read_text())) == ["sched_setaffinity"]
    assert offences(others_affinity_changes, own) == []
    assert callers == {"affinity_journal.py", "tasks.py"}


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (pickles, "import pickle"),
        (pickles, "def f():\n    from marshal import loads"),
        (pickles, "import joblib.memory"),
        (impurities, "text = open('/proc/stat').read()"),
        (impurities, "share = np.random.default_rng().random()"),
        (impurities, "columns = numpy.load('model.npy')"),
        (affinity_changes, "os.sched_setaffinity(0, {1})"),
        (affinity_changes, "from os import sched_setaffinity as pin\n\nput = sched_setaffinity"),
        (affinity_changes, "psutil.Process().cpu_affinity([1])"),
        (affinity_changes, "(cgroup / 'cpuset.mems').write_text('1')"),
        (others_affinity_changes, "os.sched_setaffinity(pid, {1})"),
        (others_affinity_changes, "os.sched_setaffinity(0, {1})\nput = os.sched_setaffinity"),
    ],
)
def test_a_planted_violation_is_seen(check, source):
    assert list(check(source))


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (pickles, "import msgspec.json\nfrom . import picklefork"),
        (impurities, "self._open = free.open_pages()\nload = process.load"),
        (others_affinity_changes, "os.sched_setaffinity(0, {cpu})"),
        (affinity_changes, "os.sched_getaffinity(0)\nnodes = (cgroup / 'cpuset.mems.effective').read_text()"),
    ],
)
def test_what_is_allowed_is_left_alone(check, source):
    assert not list(check(source))
