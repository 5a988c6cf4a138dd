# SPDX-License-Identifier: Apache-2.0

"""The files of DAMON as plain files: what is written stays to be read, and the directories are there beforehand."""

import shutil
from pathlib import Path

ADMIN = Path("sys/kernel/mm/damon/admin/kdamonds")
CONTEXT = ADMIN / "0/contexts/0"


ATTRIBUTES = (
    "operations",
    "monitoring_attrs/intervals/sample_us",
    "monitoring_attrs/intervals/aggr_us",
    "monitoring_attrs/nr_regions/min",
    "monitoring_attrs/nr_regions/max",
    "targets/nr_targets",
    "schemes/nr_schemes",
)
OF_SCHEME = (
    "action",
    *(f"access_pattern/{name}/{end}" for name in ("sz", "nr_accesses", "age") for end in ("min", "max")),
    "filters/nr_filters",
    *(f"filters/0/{name}" for name in ("type", "damon_target_idx", "matching")),
)


class FakeDamon:
    """DAMON with nobody using it, and room for so many targets of so many ranges; its kernel thread is ``pid``."""

    def __init__(self, root, *, targets=2, ranges=64, pid=77):
        self.root = root
        self.write(ADMIN / "nr_kdamonds", 0)
        self.write(ADMIN / "0/pid", pid)
        self.write(ADMIN / "0/state", "off")
        of_target = ["pid_target", "regions/nr_regions"]
        of_target += [f"regions/{index}/{name}" for index in range(ranges) for name in ("start", "end")]
        for name in ("nr_contexts", *(f"0/{name}" for name in ATTRIBUTES)):
            self.write(CONTEXT.parent / name, "")
        for target in range(targets):
            for name in of_target:
                self.write(CONTEXT / f"targets/{target}/{name}", "")
            for name in OF_SCHEME:
                self.write(CONTEXT / f"schemes/{target}/{name}", "")
            self.regions(target)
        self.write(CONTEXT / "targets/nr_targets", 0)

    def write(self, path, value):
        """Write one file, its folders too."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(f"{value}\n")

    def read(self, path):
        """Give what a file of the administrator's folder holds, without the newline."""
        return (self.root / ADMIN / path).read_text().strip()

    def written(self, folder):
        """Give all files below a folder of the context that hold something, by path."""
        base = self.root / CONTEXT / folder
        return {
            str(path.relative_to(base)): path.read_text().strip()
            for path in base.rglob("*")
            if path.is_file() and path.read_text().strip() and "tried_regions" not in path.parts
        }

    def regions(self, target, *rows, first=5):
        """Let a target's scheme have been applied to rows of (start, end, nr_accesses), numbered from ``first``."""
        folder = CONTEXT / f"schemes/{target}/tried_regions"
        shutil.rmtree(self.root / folder, ignore_errors=True)
        self.write(folder / "total_bytes", sum(end - start for start, end, _ in rows))
        for index, row in enumerate(rows, first):
            for name, value in zip(("start", "end", "nr_accesses"), row, strict=True):
                self.write(folder / f"{index}/{name}", value)

    def replaced(self):
        """Let somebody write nr_kdamonds: the directory is another one, with nothing in it."""
        old = self.root / ADMIN / "0"
        old.rename(self.root / "was")
        self.write(ADMIN / "0/pid", -1)
        self.write(ADMIN / "0/state", "off")

    def refuse(self, file, by="/proc/self/oom_score_adj"):
        """Make writing to a file fail: oom_score_adj answers EINVAL to words, as DAMON's state does."""
        path = self.root / ADMIN / file
        path.unlink(missing_ok=True)
        path.symlink_to(by)
