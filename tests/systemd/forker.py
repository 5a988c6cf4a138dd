# SPDX-License-Identifier: Apache-2.0

"""A job that forks as many children as each line of stdin says, and binds itself to the CPUs that its arguments name."""

import os
import sys
import time


def main():
    """Obey until the end of stdin."""
    if cpus := {int(word) for word in sys.argv[1:]}:
        os.sched_setaffinity(0, cpus)
    print("ready 0 0", flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            if os.fork() == 0:
                time.sleep(10_000)
        print("forked", flush=True)


if __name__ == "__main__":
    main()
