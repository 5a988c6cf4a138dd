# SPDX-License-Identifier: Apache-2.0

"""``numad-py simulate --html`` writes one whole page, or says what is wrong and leaves what was there."""

import html
import os
import shutil
import subprocess

import pytest
import typer
from typer.testing import CliRunner

from numad_py import trace
from numad_py.cli.simulate import simulate
from tests import two_nodes

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (400, 1366)
JOBS = 6  # of the synthetic trace


def ran(*arguments, status=0):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(simulate)
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


def refused(*arguments):
    return " ".join(ran(*arguments, status=2).stderr.replace("│", " ").split())


@pytest.fixture
def recorded(tmp_path):
    path = tmp_path / "a.jsonl"
    with trace.Writer(path, two_nodes.HEADER) as writer:
        for each in list(two_nodes.ticks())[:8]:
            writer.write(each)
    return path


def test_the_page_is_written_beside_the_table(tmp_path, recorded):
    page = tmp_path / "report.html"

    shown = ran(recorded, "--html", page)

    document = page.read_text()
    assert "modelled time / hold" in shown.stdout
    assert [name in document for name in ("a.jsonl: 2 nodes", "hold", "default", "interleave")] == [True] * 4
    assert "/training.slice/late-bound.scope" in document
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "report.html"]


def test_json_is_json_with_a_page_too(tmp_path, recorded):
    assert ran(recorded, "--json", "--html", tmp_path / "report.html").stdout.startswith("[")
    assert (tmp_path / "report.html").exists()


def test_the_figures_are_the_same_with_a_page_and_without(tmp_path, recorded):
    assert ran(recorded, "--json").stdout == ran(recorded, "--json", "--html", tmp_path / "a.html").stdout


def test_an_older_page_is_replaced_and_by_nothing_if_the_trace_is_damaged(tmp_path, recorded):
    page = tmp_path / "report.html"
    page.write_text("older")
    with recorded.open("a") as file:
        file.write("{nonsense\n")

    with pytest.raises(trace.TraceError):
        ran(recorded, "--html", page)
    kept = page.read_text()
    ran(recorded, "--lenient", "--html", page)

    assert kept == "older"
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_a_directory_is_refused(tmp_path, recorded):
    assert f"{tmp_path.name}: is a directory: name a file" in refused(recorded, "--html", tmp_path)


def test_a_directory_that_is_not_there_is_told_before_anything_is_replayed(tmp_path, recorded):
    assert "there is no directory" in refused(recorded, "--html", tmp_path / "none" / "report.html")


def test_a_directory_that_takes_no_file_is_told_before_anything_is_replayed(recorded):
    recorded.write_text("{nonsense\n")

    with pytest.raises(PermissionError) as told:
        ran(recorded, "--html", "/sys/report.html")

    assert told.value.filename == "/sys/report.html"


def test_a_trace_is_never_written_over(tmp_path, recorded):
    before = recorded.read_bytes()
    (tmp_path / "link").symlink_to(recorded)

    assert "is a trace to be replayed" in refused(recorded, "--html", recorded)
    assert "is a trace to be replayed" in refused(recorded, "--html", tmp_path / "link")
    assert recorded.read_bytes() == before


def test_a_page_that_cannot_be_written_leaves_nothing_behind(tmp_path, recorded):
    name = "x" * 255  # NAME_MAX: with one character more it is longer than any file's name may be

    with pytest.raises(OSError, match="too long"):
        ran(recorded, "--html", tmp_path / name)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_needs_to_scroll_in_one_direction_only(tmp_path, recorded, width):
    page, frame = tmp_path / "report.html", tmp_path / "frame.html"
    ran(recorded, "--html", page)
    # Framed, since a headless window has a least width; srcdoc, since the frame of a file may not be measured.
    document = html.escape(page.read_text())
    frame.write_text(
        f'<iframe style="border:0;width:{width}px;height:3000px" srcdoc="{document}"></iframe><script>onload = () => {{'
        "const root = document.querySelector('iframe').contentDocument.documentElement;"
        "document.title = `${root.scrollWidth - root.clientWidth} beyond, ${root.querySelectorAll('figure').length} figures`"
        "}</script>"
    )

    dom = subprocess.run(
        [
            CHROMIUM,
            *(
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
            ),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", frame.as_uri()),
        ],
        capture_output=True,
        check=True,
        encoding="utf-8",
        timeout=120,
        env=os.environ | {"HOME": str(tmp_path)},
    ).stdout

    assert f"<title>0 beyond, {1 + 3 * (JOBS + 1)} figures</title>" in dom
