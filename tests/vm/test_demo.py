# SPDX-License-Identifier: Apache-2.0

"""``make run`` on a host with several nodes repairs a job of its own, and leaves nothing behind."""

import subprocess
import sys

from tests.vm import observer
from tests.vm.conftest import CGROUPS


def test_the_demo_repairs_its_own_job_and_no_other(job):
    bystander = job("bystander")
    other = bystander.start("late-bound", "--mb=32")
    other.tell("bind")
    bystander.label("default")

    done = subprocess.run(
        [sys.executable, "-m", "numad_py", "demo"], check=True, stdout=subprocess.PIPE, text=True
    )

    print(done.stdout)
    assert "A job of 200 MB allocated its memory on node 0, and now runs on node 1." in done.stdout
    assert "of the job's memory is local" in done.stdout.splitlines()[-2] + done.stdout.splitlines()[-1]
    assert not list(CGROUPS.glob("numad-py-demo-*"))
    assert observer.anonymous_share(other.pid, 0) > 0.8
