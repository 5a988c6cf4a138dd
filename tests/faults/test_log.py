# SPDX-License-Identifier: Apache-2.0

"""Nobody who reads the log is needed."""

import os
import time


def test_a_log_that_nobody_reads_any_more_ends_nothing(daemon):
    reader, writer = os.pipe()
    running = daemon(stderr=writer)
    os.close(writer)
    with os.fdopen(reader) as lines:
        assert any("event=tick" in line for line in lines)

    time.sleep(1)  # turns are logged into a pipe that has no other end

    assert running.process.poll() is None
    assert running.stop() == 0
