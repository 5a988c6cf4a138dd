# SPDX-License-Identifier: Apache-2.0

"""Throw nearly right bytes at everything that reads others' bytes, for as long as told: ``make fuzz SECONDS=600``.

An input that something dies of is kept in the corpus, where every later test run finds it.
"""

import argparse
import hashlib
import random
import sys
import time
import traceback

import structlog

from numad_py.cli import progress
from tests.fuzz import targets
from tests.fuzz.mutations import mutated


def main():
    """Fuzz, and give 1 where anything died."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of what is thrown; else another each time")
    parser.add_argument("targets", nargs="*", default=targets.NAMES, help="only these")
    arguments = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    thrown, died = thrown_for(arguments.seconds, arguments.targets, random.Random(seed))
    print(f"seed {seed}: {thrown}; died of: {died or 'nothing'}")
    return bool(died)


def thrown_for(seconds, names, dice):
    """Give how many inputs each target took, and the files of those that it died of."""
    opened, inputs = targets.opened(), {name: targets.corpus(name) for name in names}
    thrown, died = dict.fromkeys(names, 0), []
    end_s = time.monotonic() + seconds
    with progress.bar("fuzzing", seconds, shown=True) as tell:
        while (left_s := end_s - time.monotonic()) > 0:
            name = dice.choice(names)
            data = mutated(dice.choice(inputs[name]), inputs[name], dice)
            thrown[name] += 1
            if not survived(getattr(opened, name), data):
                died.append(kept(name, data))
            tell(int(left_s) - int(max(end_s - time.monotonic(), 0)))
    return thrown, died


def survived(target, data):
    """Throw it; say whether the target lives, and how it died if not."""
    try:
        target(data)
    except BaseException:  # noqa: BLE001 - whatever it is, the daemon would have died of it
        traceback.print_exc()
        return False
    return True


def kept(name, data):
    """Keep an input, and give the name of its file."""
    path = targets.CORPUS / name / f"died-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return str(path)


if __name__ == "__main__":
    sys.exit(main())
