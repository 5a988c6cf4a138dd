# SPDX-License-Identifier: Apache-2.0

"""``python -m numad_py.trace.schema > docs/trace-v1.schema.json``: the JSON Schema of a trace's lines."""

import sys

import msgspec

from numad_py.trace import wire


def schema() -> str:
    """Give the schema of one line, generated from the types that the reader uses."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"One line of a numad-py trace, version {wire.VERSION}",
    }
    text = msgspec.json.encode(head | msgspec.json.schema(wire.Header | wire.Tick))
    return msgspec.json.format(text, indent=2).decode() + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())
