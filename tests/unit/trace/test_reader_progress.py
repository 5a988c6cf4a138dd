# SPDX-License-Identifier: Apache-2.0

"""Whoever reads a trace can follow how much of the file was read."""

import pytest

from numad_py import trace
from tests import two_nodes


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_the_bytes_that_were_read_add_up_to_the_file(tmp_path, ending):
    path, counts = tmp_path / f"a{ending}", []
    with trace.Writer(path, two_nodes.HEADER) as writer:
        for each in two_nodes.ticks():
            writer.write(each)

    _, ticks = trace.read(path, on_bytes=counts.append)
    begun = sum(counts)
    for _ in ticks:
        pass

    assert 0 < begun < sum(counts) == path.stat().st_size
