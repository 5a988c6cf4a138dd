# SPDX-License-Identifier: Apache-2.0

"""The package has all that it needs, and nothing that harms; `make deb` builds it and asks this."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = re.compile(
    r"etc/numad-py/|usr/bin/numad-py$|usr/lib(exec)?/numad-py/|usr/lib/(systemd/system|sysusers\.d|tmpfiles\.d)/numad-py"
    r"|usr/share/(doc/numad-py|man/man[58]|bash-completion/completions|fish/vendor_completions\.d|zsh/vendor-completions)/"
)


def said(*words, **options):
    return subprocess.run(words, check=True, capture_output=True, text=True, **options).stdout


@pytest.fixture(scope="module")
def package():
    return max((ROOT / "dist").glob("numad-py_*.deb"), key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def unpacked(package, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    said("dpkg-deb", "-x", package, folder)
    return folder


@pytest.fixture
def run(unpacked):
    """Run Python on what was unpacked as the program does, with no path but that and the standard library's."""
    program = (unpacked / "usr/bin/numad-py").read_text()
    python = program.partition("\n")[0].removeprefix("#!").split()
    here = program.replace('"/usr/lib/numad-py"', repr(str(unpacked / "usr/lib/numad-py")))
    imports = here.partition("\nif ")[0]

    def run(*words, code=None):
        return said(*python, "-c", imports + "\n" + code if code else here, *words, cwd="/", env={})

    return run


def test_everything_is_root_s_lies_where_it_should_and_can_be_changed_by_nobody_else(package):
    for line in said("dpkg-deb", "-c", package).splitlines():
        mode, owner, _, _, _, path = line.split(maxsplit=5)
        assert owner == "root/root"
        assert mode[5] == mode[8] == "-", path
        assert "s" not in mode, path
        assert mode[0] == "d" or PLACES.match(path.removeprefix("./")), path


def test_the_configuration_is_the_operator_s_to_keep_and_observes(package, unpacked):
    assert said("dpkg-deb", "-I", package, "conffiles") == "/etc/numad-py/numad.yaml\n"
    assert "\nmode: observe " in (unpacked / "etc/numad-py/numad.yaml").read_text()


def test_every_unit_of_the_clone_is_there(unpacked):
    ours = sorted(path.name for path in (ROOT / "systemd").glob("numad-py*.s*"))

    assert sorted(path.name for path in (unpacked / "usr/lib/systemd/system").iterdir()) == ours


def test_every_example_of_the_clone_is_there(unpacked):
    ours = sorted(path.name for path in (ROOT / "systemd").glob("*/*.*"))

    assert sorted(path.name for path in (unpacked / "usr/share/doc/numad-py/examples").iterdir()) == ours


@pytest.mark.parametrize(
    "module", ["asyncvarlink", "inotify_simple", "prometheus_client", "pynvml", "systemd.journal"]
)
def test_what_may_be_lacking_elsewhere_comes_with_it(module, run):
    assert "usr/lib/numad-py/" in run(code=f"import {module}\nprint({module}.__file__)")


def test_it_runs_finds_its_content_and_writes_nothing_beside_its_code(run, unpacked):
    before = sorted(unpacked.rglob("*"))

    config = run("daemon", "--check-config", "--config", str(unpacked / "etc/numad-py/numad.yaml"))
    replayed = run("simulate", "--scenario", "late-bound-worker", "--jobs", "2", "--json")

    assert "mode: observe" in config
    assert "late-bound-worker" in replayed
    assert sorted(unpacked.rglob("*")) == before


def test_it_knows_nothing_of_the_folder_where_it_was_built(unpacked):
    here = os.fsencode(ROOT / "build")

    assert [path for path in unpacked.rglob("*") if path.is_file() and here in path.read_bytes()] == []


def test_compiled_modules_look_for_libraries_beside_themselves_only(unpacked):
    modules = [path for path in (unpacked / "usr/lib/numad-py").rglob("*.so*") if path.is_file()]
    told = said("readelf", "--dynamic", "--wide", *modules)

    searched = re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", told)

    assert searched
    assert [each for each in searched if not each.startswith("$ORIGIN")] == []
