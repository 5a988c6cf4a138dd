# SPDX-License-Identifier: Apache-2.0

"""Linux interfaces, one module each; nothing is decided here.

Parsers take what a file held; readers take ``root``, the folder above proc/ and
sys/. What is read may vanish at any moment: readers raise FileNotFoundError
(gone before it was opened) or ProcessLookupError (gone while it was read), as
the kernel says it, and PermissionError where a right is missing.
"""


class Malformed(ValueError):
    """A kernel file held what its parser does not read."""
