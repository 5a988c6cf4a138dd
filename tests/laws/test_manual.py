# SPDX-License-Identifier: Apache-2.0

"""The manual pages tell of every verb, option and key, in a form that man(1) takes."""

import os
import re
import subprocess
from dataclasses import fields

import pytest
import typer

from numad_py.cli.main import application
from numad_py.daemon.config import Config
from scripts import manual

VERBS = typer.main.get_command(application()).commands


def shown(name, folder):
    """Give a page as a reader sees it, on lines that break nowhere, and what man(1) has to say against it."""
    path = folder / name
    path.write_text(manual.page(name))
    command = ["man", "--warnings", "--no-hyphenation", "--local-file", path]
    plain = os.environ | {"LC_ALL": "C", "MANWIDTH": "1000"}
    read = subprocess.run(command, check=True, capture_output=True, text=True, env=plain)
    return read.stdout, read.stderr


@pytest.mark.parametrize("name", ["numad-py.8", "numad.yaml.5"])
def test_a_page_is_without_fault_and_has_the_sections_that_are_looked_for(name, tmp_path):
    text, faults = shown(name, tmp_path)

    assert faults == ""
    assert {"NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "SEE ALSO"} <= set(text.splitlines())


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_stands_below_it(verb, tmp_path):
    text, _ = shown("numad-py.8", tmp_path)
    below = text.partition(f"   numad-py {verb} ")[2].partition("\n   numad-py ")[0]

    options = {option for parameter in VERBS[verb].params for option in parameter.opts if option[0] == "-"}

    assert set(re.findall(r"(?m)^       (-[\w-]+)", below)) == options - {"--help", "-h"}


def test_every_key_of_the_configuration_has_its_default(tmp_path):
    text, _ = shown("numad.yaml.5", tmp_path)

    keys = re.findall(r"(?m)^       (\w+) \(default: ", text)

    assert keys == [each.name for each in fields(Config)]
