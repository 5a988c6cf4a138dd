# SPDX-License-Identifier: Apache-2.0

"""A time on a command line is one that can be waited for."""

import pytest
import typer
from typer.testing import CliRunner

from numad_py.cli.main import application
from numad_py.cli.seconds import finite


@pytest.mark.parametrize("seconds", [None, 0.0, 0.25, 3600.0])
def test_a_time_is_taken_as_it_is(seconds):
    assert finite(seconds) == seconds


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e300])
def test_what_is_no_time_is_refused(seconds):
    with pytest.raises(typer.BadParameter, match="a finite number of seconds is needed"):
        finite(seconds)


@pytest.mark.parametrize(
    "words",
    [
        ("simulate", "a.jsonl", "--deadline"),
        ("record", "a.jsonl", "--period"),
        ("record", "a.jsonl", "--duration"),
        ("demo", "--limit"),
    ],
)
def test_no_option_takes_nan(words):
    ran = CliRunner().invoke(application([words[0]]), [*words, "nan"])

    assert (ran.exit_code, "found nan, a finite number" in ran.output) == (2, True)
