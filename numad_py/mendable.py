# SPDX-License-Identifier: Apache-2.0

"""What the user can mend; every command line ends with its text, and exit status 1."""


class Mendable(Exception):
    """Its text is one sentence: what is wrong, where, and what to do about it."""
