# SPDX-License-Identifier: Apache-2.0

"""DAMON is taken from nobody, and what a dead owner left is removed, and only that."""

import subprocess
import sys

import pytest

from numad_py.kernel import damon
from numad_py.sense.investigate.damon_claim import Claim, release_stale
from tests.fake_damon import ADMIN, CONTEXT, FakeDamon

PIDS = (100, 200)


@pytest.fixture
def fake(tmp_path):
    return FakeDamon(tmp_path)


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def lay_out(fake, pids):
    """Let DAMON watch these, or have room for them where a PID is 0."""
    fake.write(CONTEXT / "targets/nr_targets", len(pids))
    for index, pid in enumerate(pids):
        fake.write(CONTEXT / f"targets/{index}/pid_target", pid)


def die(fake, state, *, pids=PIDS):
    """Let an owner of DAMON die: its locks go, its state file and what it set up stay."""
    owner = Claim(state, fake.root)
    assert owner.take(pids) == ""
    told = state.read_bytes()
    owner.release()
    state.write_bytes(told)
    damon.claim(fake.root)


def test_damon_is_ours_until_it_is_released(fake, state):
    claim = Claim(state, fake.root)

    assert claim.take(PIDS) == ""
    assert claim.holds
    lay_out(fake, PIDS)
    assert claim.holds
    claim.release()

    assert not claim.holds
    assert fake.read("nr_kdamonds") == "0"
    assert fake.read("0/state") == "off"
    assert state.read_bytes() == b""


def test_releasing_what_was_never_taken_does_nothing(fake, state):
    Claim(state, fake.root).release()

    assert fake.read("0/state") == "off"
    assert not state.exists()


def test_a_kernel_without_damon_is_said_to_be_one(tmp_path, state):
    assert "no DAMON" in Claim(state, tmp_path).take(PIDS)


def test_another_users_kdamonds_are_left_to_him(fake, state):
    fake.write(ADMIN / "nr_kdamonds", 2)

    why = Claim(state, fake.root).take(PIDS)

    assert why == "DAMON has another user: kdamonds/nr_kdamonds is 2"
    assert fake.read("nr_kdamonds") == "2"


def test_the_kernels_own_use_of_damon_is_given_way_to(fake, state):
    fake.write("sys/module/damon_lru_sort/parameters/enabled", "Y")

    why = Claim(state, fake.root).take(PIDS)

    assert why == "DAMON has another user: damon_lru_sort is on"
    assert fake.read("nr_kdamonds") == "0"


def test_one_of_us_at_a_time(fake, state):
    first, second = Claim(state, fake.root), Claim(state, fake.root)
    first.take(PIDS)

    why = second.take(PIDS)

    assert "another numad-py" in why
    assert first.holds
    second.release()
    assert first.holds


def test_a_system_that_refuses_is_quoted_and_nothing_is_held(fake, state):
    fake.refuse("nr_kdamonds", by=fake.root)
    claim = Claim(state, fake.root)

    assert "cannot be used: [Errno 21]" in claim.take(PIDS)
    assert not claim.holds
    assert state.read_bytes() == b""
    assert "cannot be used: [Errno 21]" in claim.take(PIDS)


def test_a_state_file_that_is_a_link_is_not_followed(fake, state):
    state.symlink_to(fake.root / "elsewhere")

    assert "cannot be used" in Claim(state, fake.root).take(PIDS)
    assert not (fake.root / "elsewhere").exists()


def test_where_there_was_no_owner_nothing_is_removed(fake, state):
    assert not release_stale(state, fake.root)
    assert not state.exists()


def test_a_living_owner_keeps_what_is_his(fake, state):
    owner = Claim(state, fake.root)
    owner.take(PIDS)

    assert not release_stale(state, fake.root)
    assert owner.holds


@pytest.mark.parametrize("watched", [(), (0, 0), (100, 0), PIDS])
def test_what_a_dead_owner_left_is_removed_however_far_he_got(fake, state, watched):
    die(fake, state)
    lay_out(fake, watched)

    assert release_stale(state, fake.root)

    assert fake.read("nr_kdamonds") == "0"
    assert not release_stale(state, fake.root)


def test_an_owner_killed_by_a_signal_is_a_dead_one(fake, state):
    code = (
        "import os, pathlib, signal, sys; from numad_py.sense.investigate.damon_claim import Claim;"
        "claim = Claim(*map(pathlib.Path, sys.argv[1:])); assert claim.take([100]) == '';"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(state), str(fake.root)], check=False)
    assert ended.returncode == -9

    assert release_stale(state, fake.root)
    assert fake.read("nr_kdamonds") == "0"


def test_the_next_owner_removes_what_a_dead_one_left(fake, state):
    die(fake, state)
    claim = Claim(state, fake.root)

    assert claim.take((300,)) == ""

    assert claim.holds
    assert state.read_text().split()[1:] == ["300"]


@pytest.mark.parametrize("watched", [(300, 200), (100,), (100, 200, 300)])
def test_what_watches_anybody_else_is_not_what_the_dead_owner_left(fake, state, watched):
    die(fake, state)
    for index in range(3):
        (fake.root / CONTEXT / f"targets/{index}").mkdir(exist_ok=True)
    lay_out(fake, watched)

    assert not release_stale(state, fake.root)
    assert fake.read("nr_kdamonds") == "1"


def test_what_another_set_up_in_its_place_is_left_to_him(fake, state):
    die(fake, state)
    fake.replaced()

    assert not release_stale(state, fake.root)
    assert fake.read("nr_kdamonds") == "1"
    assert "another user" in Claim(state, fake.root).take(PIDS)


@pytest.mark.parametrize("told", [b"%020d 100 200\n" % 7, b"%020d 100 200\n" % 0])
def test_where_somebody_has_cleaned_up_already_there_is_nothing_to_remove(tmp_path, state, told):
    state.write_bytes(told)

    assert not release_stale(state, tmp_path)
    assert state.read_bytes() == b""


def test_an_owner_who_died_before_he_noted_the_identity_left_a_bare_kdamond(tmp_path, state):
    fake = FakeDamon(tmp_path, pid=-1)
    die(fake, state)
    state.write_bytes(b"%020d 100 200\n" % 0)

    assert release_stale(state, fake.root)
    assert fake.read("nr_kdamonds") == "0"


@pytest.mark.parametrize(("pid", "watched"), [(77, ()), (-1, (100, 200))])
def test_a_kdamond_that_is_not_bare_is_not_of_one_who_died_so_early(tmp_path, state, pid, watched):
    fake = FakeDamon(tmp_path, pid=pid)
    die(fake, state)
    lay_out(fake, watched)
    state.write_bytes(b"%020d 100 200\n" % 0)

    assert not release_stale(state, fake.root)
    assert fake.read("nr_kdamonds") == "1"


@pytest.mark.parametrize("text", [b"", b"x", b"1 100\n", b"\xff" * 30, b"%020d 100" % 7])
def test_a_state_file_that_tells_nothing_removes_nothing(fake, state, text):
    damon.claim(fake.root)
    state.write_bytes(text)

    assert not release_stale(state, fake.root)
    assert fake.read("nr_kdamonds") == "1"


def test_what_could_not_be_removed_is_found_again(fake, state):
    die(fake, state)
    fake.refuse("0/state", by=fake.root)

    with pytest.raises(IsADirectoryError):
        release_stale(state, fake.root)
    (fake.root / ADMIN / "0/state").unlink()
    fake.write(ADMIN / "0/state", "on")

    assert release_stale(state, fake.root)
