# SPDX-License-Identifier: Apache-2.0

"""Print a manual page: its verbs from the command line's own help, its keys from docs/operating.md, the rest by hand."""

import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import typer

from numad_py.cli.main import application
from numad_py.daemon.config import Config

DOCS = Path(__file__).parents[1] / "docs"
KEY = re.compile(r"^\| `(\w+)` \| ([^|]+) \| (.+) \|$", re.MULTILINE)


def page(name: str) -> str:
    """Give a page as man(1) takes it; ``name`` is its file in docs/man/."""
    text = (DOCS / "man" / name).read_text()
    return text.replace("@VERBS@\n", "".join(verbs())).replace("@KEYS@\n", "".join(keys()))


def verbs() -> Iterator[str]:
    """Give a subsection for every verb."""
    for name, verb in typer.main.get_command(application()).commands.items():
        context = typer.Context(verb, info_name=f"numad-py {name}")
        yield f'.SS "{roff(context.command_path)} {roff(" ".join(verb.collect_usage_pieces(context)))}"\n'
        yield ".PP\n".join(f"{roff(paragraph)}\n" for paragraph in verb.help.split("\n\n"))
        records = (parameter.get_help_record(context) for parameter in verb.params)
        for words, told in filter(None, records):
            yield f".TP\n.B {roff(words.partition(' <')[0])}\n{roff(told)}\n"  # less the type of an argument


def keys() -> Iterator[str]:
    """Give a paragraph for every key of the configuration; KeyError where the table leaves one out."""
    rows = KEY.findall((DOCS / "operating.md").read_text())
    told = {
        key: (default, says) for key, default, says in reversed(rows)
    }  # the table is the first that has it
    for key in (each.name for each in fields(Config)):
        default, says = map(roff, told[key])
        yield f'.TP\n.BR {key} " (default: {default})"\n{says}.\n'


def roff(text: str) -> str:
    """Write text so that man(1) takes none of it for a request; what is between backticks becomes bold."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub("(?m)^([.'])", r"\\&\1", re.sub("`([^`]+)`", r"\\fB\1\\fR", escaped))


if __name__ == "__main__":
    print(page(sys.argv[1]), end="")
