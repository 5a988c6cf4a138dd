# SPDX-License-Identifier: Apache-2.0

"""Journald gets a line for people and a field of each word; without it nothing is lost."""

import io
import os
import subprocess
import sys

import pytest
import structlog

from numad_py.daemon import journald, log


@pytest.fixture(autouse=True)
def _defaults_after():
    yield
    structlog.reset_defaults()


@pytest.fixture
def sent(monkeypatch):
    """Give what is sent to journald; a file stands for the stream that systemd connects."""
    sent = []
    monkeypatch.setattr(journald.journal, "send", lambda line, **fields: sent.append((line, fields)))
    return sent


@pytest.fixture
def stream(tmp_path, monkeypatch):
    """Give a stream that systemd connected to journald."""
    with (tmp_path / "stderr").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        yield stream


def test_a_move_can_be_found_by_its_job_pid_policy_and_reason(stream, sent):
    log.configure(stream, foreground=False)

    structlog.get_logger().info(
        "moved", pid=7, job="/a.slice/b", policy="default", reason="memory-follows-cpu", mb=3.5
    )

    ((line, fields),) = sent
    assert line == "moved pid=7 job=/a.slice/b policy=default reason=memory-follows-cpu mb=3.5"
    assert fields == {
        "SYSLOG_IDENTIFIER": "numad-py",
        "PRIORITY": 6,
        "EVENT": "moved",
        "PID": "7",
        "JOB": "/a.slice/b",
        "POLICY": "default",
        "REASON": "memory-follows-cpu",
        "MB": "3.5",
    }


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)]
)
def test_levels_are_those_of_syslog(stream, sent, level, priority):
    log.configure(stream, foreground=False, level=0)

    getattr(structlog.get_logger(), level)("said")

    assert [fields["PRIORITY"] for _, fields in sent] == [priority]


@pytest.mark.parametrize("error", [ConnectionRefusedError, FileNotFoundError, BlockingIOError])
def test_where_journald_is_gone_the_line_goes_to_stderr(stream, monkeypatch, error):
    def gone(_line, **_fields):
        raise error

    monkeypatch.setattr(journald.journal, "send", gone)
    log.configure(stream, foreground=False)

    structlog.get_logger().warning("skipped", pid=7)

    stream.seek(0)
    assert stream.read() == "skipped pid=7\n"


def test_a_word_with_a_newline_cannot_forge_a_field(stream, sent):
    log.configure(stream, foreground=False)

    structlog.get_logger().info("moved", comm="x\nJOB=/another")

    ((_, fields),) = sent
    assert fields["COMM"] == "x\\nJOB=/another"
    assert "JOB" not in fields


@pytest.mark.parametrize("said", ["", "0:0", "nonsense"])
def test_a_stream_that_systemd_did_not_connect_gets_the_lines_itself(stream, sent, monkeypatch, said):
    monkeypatch.setenv("JOURNAL_STREAM", said)
    log.configure(stream, foreground=False)

    structlog.get_logger().info("started")

    stream.seek(0)
    assert (sent, stream.read()) == ([], "level=info event=started\n")


def test_a_stream_of_no_file_is_no_journald():
    assert not journald.is_behind(io.StringIO())


def test_without_systemd_python_lines_go_to_stderr(stream):
    status = os.fstat(stream.fileno())
    script = (
        "import sys; sys.modules['systemd'] = None\n"
        "from numad_py.daemon import log; import structlog\n"
        "log.configure(foreground=False); structlog.get_logger().info('started')"
    )

    environment = os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    subprocess.run([sys.executable, "-c", script], stderr=stream, env=environment, check=True)

    stream.seek(0)
    assert stream.read() == "level=info event=started\n"
