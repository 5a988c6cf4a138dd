# SPDX-License-Identifier: Apache-2.0

"""Tell which GPUs each process uses, by PCI address.

Problem: a GPU hangs on one node, and the process that feeds it should be near;
but CUDA opens every GPU that it can see, so that an open device is not yet use.
Primitive: NVML lists the processes that compute on each NVIDIA GPU, and KFD the
queues of each process on AMD GPUs. Both are use.
Application: they are believed where they answer. Where NVML does not, a process's
open /dev/nvidiaN count if all of them hang on one node; if not, which of them it
uses is not known, and nothing is said.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from numad_py.kernel import Malformed, kfd, nvidia_files, nvml, pid_namespace
from numad_py.model import ProcessKey
from numad_py.workers import Unfinished, Workers

T = TypeVar("T")

AGE_S: Final = 30.0
OPEN_PER_LOOK: Final = 8  # processes whose descriptors are read in one look: 30 µs each, 5 ms with 1,000 open

ProcessLists = Callable[[], Mapping[str, frozenset[int]]]  # PCI address to PIDs

_NVML: Final = ProcessKey(0, 0)  # what is set aside while NVML hangs
_NEVER: Final[tuple[float, frozenset[str]]] = (float("-inf"), frozenset())
_OTHER_PIDS: Final = "drivers know processes by other PIDs than this container does"
_FORBIDDEN: Final = "which GPUs other users open takes CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH to see"


def nodes_of(gpus: Iterable[str], node_of: Mapping[str, int]) -> tuple[int, ...]:
    """Give the nodes that these GPUs hang on, ascending; a GPU whose node is not known adds none."""
    return tuple(sorted({node_of[gpu] for gpu in gpus if node_of.get(gpu, -1) >= 0}))


class Gpus:
    """Remembers the GPUs of each process for ``AGE_S``; ``node_of`` is PCI address to node.

    After a look ``problems`` tells, by source, why it did not answer.
    """

    def __init__(
        self,
        node_of: Mapping[str, int],
        root: Path = Path("/"),
        ask_nvml: ProcessLists = nvml.compute_processes,
        *,
        patience_s: float = 1.0,
    ) -> None:
        self._node_of = node_of
        self._root = root
        self._ask_nvml = ask_nvml
        self._workers = Workers(patience_s=patience_s, stuck_limit=1)
        self._due_s = float("-inf")
        self._by_minor: Mapping[int, str] = {}
        self._listed: dict[ProcessKey, frozenset[str]] = {}
        self._open: dict[ProcessKey, tuple[float, frozenset[str]]] = {}
        self._lists_all = True
        self.problems: dict[str, str] = {}

    def look(self, processes: Iterable[ProcessKey], now_s: float) -> dict[ProcessKey, tuple[str, ...]]:
        """Give the GPUs, ascending, of those of these processes that use any."""
        keys = list(processes)
        if now_s >= self._due_s:
            self._due_s = now_s + AGE_S
            self._read_lists(keys)
        self._read_open([] if self._lists_all else keys, now_s)
        if not self._listed and not self._open:
            return {}
        known = {key: self._listed.get(key, frozenset()) | self._open.get(key, _NEVER)[1] for key in keys}
        return {key: tuple(sorted(gpus)) for key, gpus in known.items() if gpus}

    def _read_lists(self, keys: list[ProcessKey]) -> None:
        self.problems = {}
        self._by_minor = self._tried("nvidia", partial(nvidia_files.read_gpus, self._root)) or {}
        amd = self._tried("kfd", self._kfd) if kfd.is_present(self._root) else {}
        nvidia = self._tried("nvml", self._nvml) if self._by_minor else {}
        self._lists_all = nvidia is not None
        by_pid = defaultdict[int, set[str]](set)
        for gpu, pids in [*(amd or {}).items(), *(nvidia or {}).items()]:
            for pid in pids:
                by_pid[pid].add(gpu)
        self._listed = {key: frozenset(by_pid[key.pid]) for key in keys if key.pid in by_pid}

    def _tried(self, source: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (OSError, Malformed) as error:
            self.problems[source] = str(error)
            return None

    def _kfd(self) -> Mapping[str, frozenset[int]]:
        self._check_pids()
        return kfd.compute_processes(self._root)

    def _nvml(self) -> Mapping[str, frozenset[int]]:
        self._check_pids()
        (answer,) = self._workers.run([(_NVML, self._ask_nvml)])
        if isinstance(answer, Unfinished):
            raise nvml.Unanswered(f"NVML: {answer.value}")
        if isinstance(answer, OSError):
            raise answer
        return answer

    def _check_pids(self) -> None:
        if not pid_namespace.is_first(self._root):
            raise OSError(_OTHER_PIDS)

    def _read_open(self, keys: list[ProcessKey], now_s: float) -> None:
        known = {key: self._open.get(key, _NEVER) for key in keys}
        due = [key for key in keys if now_s - known[key][0] >= AGE_S]
        for key in heapq.nsmallest(OPEN_PER_LOOK, due, key=lambda key: (known[key][0], key)):
            known[key] = (now_s, self._opened(key.pid))
        self._open = known

    def _opened(self, pid: int) -> frozenset[str]:
        """Give the GPUs that a process holds open, if one node has them all."""
        try:
            minors = nvidia_files.read_open(pid, self._root)
        except PermissionError:
            self.problems["descriptors"] = _FORBIDDEN
            return frozenset()
        except OSError:  # gone, or not to be read now
            return frozenset()
        gpus = frozenset(self._by_minor[minor] for minor in minors if minor in self._by_minor)
        return gpus if len({self._node_of.get(gpu) for gpu in gpus}) == 1 else frozenset()
