# SPDX-License-Identifier: Apache-2.0

"""Find out which jobs there are, and who is in them."""

from itertools import chain
from pathlib import Path

from numad_py.kernel import Malformed, cgroup, proc_status
from numad_py.kernel.cgroup_tree import Tree
from numad_py.sense import opt_in
from numad_py.sense.opt_in import LabelledCgroup, Labels, Rules
from numad_py.sense.reported import Reported


def uncovered(pid: int, group: LabelledCgroup, root: Path) -> str:
    """Say why a process in a job's cgroup does not belong to the job; nothing where it does."""
    if group.uid is None:
        return ""
    strangers = sorted(proc_status.owners(pid, root) - {group.uid})
    return f"it belongs to uid {strangers[0]}, and uid {group.uid} labelled the job" if strangers else ""


class Jobs:
    """The labelled cgroups and their processes, as they were found last.

    ``rules`` may be replaced at any time, and from any thread; they hold from the next ``find`` on.
    ``reported`` is what processes say of their progress.
    """

    def __init__(self, mount: Path, rules: Rules, reported: Reported | None = None) -> None:
        self.rules = rules
        self.reported = reported or Reported()
        self.labels = Labels()
        self.pids: dict[int, tuple[int, ...]] = {}  # by cgroup id
        self._mount = mount
        self._tree = Tree(mount)
        self._ruled_by: Rules | None = None
        self._unfound = self._unlisted = ""

    @property
    def groups(self) -> tuple[LabelledCgroup, ...]:
        """The jobs."""
        return self.labels.jobs

    @property
    def ignored(self) -> dict[str, str]:
        """Why labels do not count, by path. That the operator's patterns yield to labels is no news."""
        said = (opt_in.ON_DIRECTORY, opt_in.BY_SOCKET)
        return {word.path: word.why for word in self.labels.words if word.why and word.source in said}

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps jobs, or who is in them, from being found."""
        return tuple(problem for problem in (self._tree.problem, self._unfound, self._unlisted) if problem)

    def find(self) -> None:
        """Look for jobs, where a cgroup or the rules changed, and for the processes of all."""
        if not self.refresh():
            self.list_processes()

    def refresh(self) -> bool:
        """Look for jobs, and for their processes, where a cgroup or the rules changed; say whether any did."""
        rules = self.rules
        try:
            changed = self._tree.refresh()
        except OSError as error:  # no descriptor is left: all stays as it was, until the next time
            self._unfound = f"cgroups cannot be looked at: {error}"
            return False
        self._unfound = ""
        if not changed and rules is self._ruled_by:
            return False
        self.labels = opt_in.assign(self._tree.directories, self._mount, rules)
        self._ruled_by = rules
        self.list_processes()
        return True

    def list_processes(self) -> None:
        """See who is in the jobs that are known."""
        self._unlisted = ""
        self.pids = {
            group.cgroup_id: tuple(sorted(set(chain.from_iterable(map(self._procs, group.directories)))))
            for group in self.labels.jobs
        }

    def _procs(self, directory: Path) -> tuple[int, ...]:
        try:
            return cgroup.procs(directory)
        except (OSError, Malformed) as error:
            self._unlisted = f"the processes of {directory} cannot be listed: {error}"
            return ()

    def close(self) -> None:
        """Stop watching the tree."""
        self._tree.close()
