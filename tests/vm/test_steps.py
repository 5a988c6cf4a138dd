# SPDX-License-Identifier: Apache-2.0

"""Pages of a job that tells its steps move between them."""

from pathlib import Path

from numad_py.daemon import reports
from numad_py.sense.reported import Reported
from tests.vm import stepping
from tests.vm.moving import pages_on


def test_pages_of_a_job_that_tells_its_steps_move_between_them(workload, tmp_path, monkeypatch):
    reported = Reported()
    monkeypatch.setenv("NUMAD_PROGRESS", str(tmp_path / "progress"))
    with reports.heard(Path(tmp_path), reported.hear):
        job = workload("steps", "--mb=8", "--step-s=0.3", "--rest-s=0.3")
        job.tell("bind")
        stepping.await_rhythm(job, reported)

        felt = stepping.move(job, reported.rhythm, 1)

    print(f"begun in steps: {felt.in_steps_share:.2f}; {felt.details}")
    assert pages_on(job, 0) == ()
    assert any("batches between steps" in detail for detail in felt.details)
    assert felt.in_steps_share <= 0.2, felt.details  # steps take half of the time and more
