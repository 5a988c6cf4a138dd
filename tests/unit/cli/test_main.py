# SPDX-License-Identifier: Apache-2.0

"""Every verb helps, and what a user got wrong is told in one sentence with exit 1 or 2, never as a traceback."""

import errno
import io
import os
import re
import sys
from pathlib import Path

import pytest
import structlog

from numad_py import __version__
from numad_py.calibrate import CannotCalibrate
from numad_py.cli import main as cli
from numad_py.daemon.service import NoCgroupError
from numad_py.profile import ProfileError
from numad_py.trace import AnotherTopology, TraceError

VERBS = (
    "look",
    "doctor",
    "label",
    "daemon",
    "status",
    "pause",
    "resume",
    "record",
    "simulate",
    "calibrate",
    "demo",
)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Give a function that runs a command line and gives exit status, stdout and stderr."""
    for folder in ("RUNTIME_DIRECTORY", "STATE_DIRECTORY"):  # not those of a daemon that runs here
        monkeypatch.setenv(folder, str(tmp_path))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["numad-py", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as ended:
            status = ended.code or 0
        return status, *capsys.readouterr()

    yield run
    structlog.reset_defaults()


def refusal(ran):
    """Give the one sentence that a command ended with."""
    status, out, err = ran
    (line,) = err.splitlines()
    assert (status, out) == (1, "")
    assert line.startswith("numad-py: ")
    return line.removeprefix("numad-py: ")


def test_without_a_word_it_shows_its_verbs(run):
    status, out, err = run()

    shown = out + err
    assert status in {0, 2}
    assert all(f"\n  {verb} " in shown for verb in VERBS)
    assert "..." not in shown.partition("Commands:")[2]


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_it_tells_its_version(run, option):
    assert run(option) == (0, f"numad-py {__version__}\n", "")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_verb_helps(run, verb, option):
    status, out, err = run(verb, option)

    assert (status, err) == (0, "")
    assert out.startswith(f"Usage: numad-py {verb}")
    assert re.findall("<[a-z]+", out.partition("Options:")[2]) == []  # values are called by what they are


def test_an_unknown_verb_is_a_mistake_in_the_command(run):
    status, _, err = run("nonsense")

    assert status == 2
    assert "No such command 'nonsense'" in err


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ProfileError("a.yaml: mode: found 1"), "a.yaml: mode: found 1"),
        (TraceError(Path("a.jsonl"), 3, "torn"), "a.jsonl, line 3: torn"),
        (AnotherTopology(), str(AnotherTopology())),
        (NoCgroupError(), str(NoCgroupError())),
        (CannotCalibrate("this machine is emulated"), "this machine is emulated"),
        (FileExistsError("a.jsonl exists, name another"), "a.jsonl exists, name another"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/a"), "/a: No such file"),
        (PermissionError(errno.EACCES, "Permission denied", "/b"), "/b: Permission denied"),
        (PermissionError(errno.EACCES, "Permission denied", "/\x1b[2J"), r"/\x1b[2J: Permission denied"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(run, monkeypatch, error, sentence):
    def fails(**_):
        raise error

    monkeypatch.setattr(cli, "application", lambda _: fails)

    assert refusal(run()) == sentence


def test_what_is_our_own_mistake_is_not_hidden(run, monkeypatch):
    def fails(**_):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "application", lambda _: fails)

    with pytest.raises(ZeroDivisionError):
        run()


def test_a_sign_that_a_locale_lacks_is_no_reason_to_end(run, monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    monkeypatch.setattr(cli, "application", lambda _: lambda **_: print("local over time: ▁█"))

    status, _, err = run()

    narrow.flush()
    assert (status, err) == (0, "")
    assert narrow.buffer.getvalue() == b"local over time: ??\n"


@pytest.mark.parametrize("verb", [["daemon", "--trace"], ["record"]])
def test_a_trace_that_is_there_is_never_overwritten(run, tmp_path, verb):
    path = tmp_path / "trace.jsonl"
    path.write_text("mine")

    sentence = refusal(run(*verb, path))

    assert sentence == f"{path} exists, and a trace overwrites nothing: name another file"
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    "verb", [["daemon", "--trace"], ["daemon", "--trace-ring", "1M", "--trace"], ["record"]]
)
def test_a_trace_in_a_folder_that_is_not_there_is_told(run, tmp_path, verb):
    told = refusal(run(*verb, tmp_path / "none" / "a.jsonl"))

    assert told.startswith(str(tmp_path / "none"))
    assert told.endswith("No such file or directory")


def test_a_machine_file_that_is_there_is_never_overwritten_unasked(run, tmp_path):
    path = tmp_path / "machine.yaml"
    path.write_text("mine")

    sentence = refusal(run("calibrate", "--output", path))

    assert sentence == f"{path} exists: name another file, or say --overwrite"
    assert path.read_text() == "mine"


def test_a_ring_without_a_trace_is_told(run, tmp_path):
    (tmp_path / "numad.yaml").touch()

    sentence = refusal(run("daemon", "--config", tmp_path / "numad.yaml", "--trace-ring", "64M"))

    assert sentence.startswith("command line: trace_ring_mb: there is no trace")


@pytest.mark.parametrize(
    "words", [["/a"], ["/a", "off", "--clear"], ["--clear"], ["/a", "--json"], ["/a", "off", "--json"]]
)
def test_half_a_word_about_a_label_is_a_mistake_in_the_command(run, words):
    status, _, err = run("label", *words)

    assert status == 2
    assert "say CGROUP PROFILE, or CGROUP --clear, or neither" in err


def test_a_profile_that_no_label_may_name_is_told(run, tmp_path):
    (tmp_path / "numad.yaml").write_text("profiles: [hold]\n")

    sentence = refusal(run("label", "--config", tmp_path / "numad.yaml", "/a", "default"))

    assert sentence == "'default': the profile default is not among those allowed"


def test_a_size_that_is_none_is_a_mistake_in_the_command(run):
    status, _, err = run("daemon", "--trace-ring", "64X")

    assert status == 2
    assert "'64X' is not a size of at least 1M, as 64M or 1G" in err


@pytest.mark.parametrize("period", ["0.01", "5000"])
def test_a_period_that_no_daemon_keeps_is_a_mistake_in_the_command(run, tmp_path, period):
    status, _, err = run("record", "--period", period, tmp_path / "a.jsonl")

    assert status == 2
    assert "--period" in err


def test_the_configuration_is_shown_with_its_origins_and_nothing_is_started(run, tmp_path):
    path = tmp_path / "numad.yaml"
    path.write_text("mode: act\n")

    status, out, err = run("daemon", "--config", path, "--check-config", "--trace", "/a.jsonl")

    assert (status, err) == (0, "")
    assert [line.split() for line in out.splitlines()[:2]] == [
        ["mode:", "act", "#", str(path)],
        ["period_s:", "1.0", "#", "default"],
    ]
    assert out.splitlines()[6].split() == ["trace:", "/a.jsonl", "#", "command", "line"]


@pytest.mark.parametrize(
    ("text", "told"), [("mode: [act\n", "not YAML"), ("profiles: [none]\n", "profiles: found 'none'")]
)
def test_a_configuration_that_is_wrong_is_told_also_by_checking_it(run, tmp_path, text, told):
    path = tmp_path / "numad.yaml"
    path.write_text(text)

    for options in ([], ["--check-config"]):
        sentence = refusal(run("daemon", "--config", path, *options))
        assert sentence.startswith(f"{path}: ")
        assert told in sentence
