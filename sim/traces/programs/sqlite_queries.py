# SPDX-License-Identifier: Apache-2.0

"""SQLite: build a database of readings with an index in its cache; then look up, sum up and correct, for ever.

The cache holds all of it; the file lies in the folder for temporary files.
"""

import random
import sqlite3
import tempfile
from pathlib import Path

READINGS, SENSORS = 900_000, 3_000
AT_ONCE = 50_000
TABLE = "CREATE TABLE reading (id INTEGER PRIMARY KEY, sensor INTEGER, at INTEGER, value REAL, note TEXT)"

print("imported", flush=True)


def rows(first):
    """Make that many readings from a number on."""
    for number in range(first, first + AT_ONCE):
        yield number, random.randrange(SENSORS), number * 60, random.gauss(20, 5), f"reading {number:024d}"


def built(path):
    """Fill a database; give the connection, whose cache then holds it."""
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript("PRAGMA cache_size = -200000; PRAGMA journal_mode = MEMORY;" + TABLE)
    for first in range(0, READINGS, AT_ONCE):
        database.execute("BEGIN")
        database.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, ?)", rows(first))
        database.execute("COMMIT")
    database.execute("CREATE INDEX by_sensor ON reading (sensor, at)")
    return database


def ask(database):
    """Sum up one sensor, look up a hundred readings, correct ten."""
    sensor = (random.randrange(SENSORS),)
    database.execute("SELECT count(*), avg(value), max(at) FROM reading WHERE sensor = ?", sensor).fetchone()
    for _ in range(100):
        number = (random.randrange(READINGS),)
        database.execute("SELECT value, note FROM reading WHERE id = ?", number).fetchone()
    database.execute("BEGIN")
    for _ in range(10):
        database.execute("UPDATE reading SET value = 0 WHERE id = ?", (random.randrange(READINGS),))
    database.execute("COMMIT")


def main():
    """Build on the node that this was started on; then work for ever."""
    random.seed(1)
    with tempfile.TemporaryDirectory() as folder:
        database = built(Path(folder) / "readings.db")
        print("built", flush=True)
        while True:
            ask(database)


main()
