# SPDX-License-Identifier: Apache-2.0

"""What somebody else could have written is refused where the daemon has rights, however the path leads there."""

import os

import pytest

from numad_py import profiles
from numad_py.daemon import config, trusted
from numad_py.policies.trees import ModelError
from numad_py.profile import ProfileError

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to others")


@pytest.fixture
def path(tmp_path):
    """Give root's own file in root's own folder."""
    path = tmp_path / "etc" / "numad.yaml"
    path.parent.mkdir()
    path.write_text("mode: act\n")
    return path


def refusal(path, check=trusted.check):
    with pytest.raises(ProfileError) as refused:
        check(path)
    return str(refused.value)


def test_what_only_root_can_write_is_read(path):
    trusted.check(path)


def test_a_file_of_another_user_is_refused(path):
    os.chown(path, NOBODY, NOBODY)

    assert refusal(path) == (
        f"{path}: belongs to uid {NOBODY}, allowed is root; whoever can write it decides what the daemon does"
    )


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_is_refused(path, mode):
    path.chmod(mode)

    assert f"may be written by others (mode {mode:04o}), allowed is root alone" in refusal(path)


def test_a_file_in_a_folder_that_others_may_write_is_refused_and_the_folder_named(path):
    path.parent.chmod(0o777)

    assert refusal(path).startswith(f"{path}: {path.parent} may be written by others (mode 0777)")


def test_a_file_in_a_folder_of_another_user_is_refused(path):
    os.chown(path.parent, NOBODY, NOBODY)

    assert f"{path.parent} belongs to uid {NOBODY}" in refusal(path)


def test_what_is_roots_in_a_folder_like_tmp_is_read_and_what_is_not_is_refused(path):
    path.parent.chmod(0o1777)
    trusted.check(path)

    os.chown(path, NOBODY, NOBODY)

    assert "belongs to uid" in refusal(path)


def test_roots_link_to_roots_file_is_read(path, tmp_path):
    link = tmp_path / "link.yaml"
    link.symlink_to("etc/../etc/numad.yaml")

    trusted.check(link)


def test_a_link_of_another_user_is_refused_though_it_leads_to_roots_file(path, tmp_path):
    tmp_path.chmod(0o1777)
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)

    assert f"{link}: belongs to uid {NOBODY}" in refusal(link)


def test_a_way_through_a_folder_that_others_may_write_is_refused_though_it_ends_at_roots_file(path, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "here").symlink_to(path)
    shared.chmod(0o777)
    link = tmp_path / "link.yaml"
    link.symlink_to(shared / "here")

    assert f"{link}: {shared} may be written by others" in refusal(link)


def test_a_link_to_itself_and_a_file_that_is_not_there_are_told(tmp_path):
    (tmp_path / "loop").symlink_to("loop")

    assert refusal(tmp_path / "loop").endswith("cannot be read: Too many levels of symbolic links")
    assert refusal(tmp_path / "none").endswith("cannot be read: No such file or directory")


def test_without_rights_over_others_it_is_the_users_own_file(path, monkeypatch):
    os.chown(path, NOBODY, NOBODY)
    monkeypatch.setattr(trusted.capabilities, "effective", frozenset)

    trusted.check(path)


def spoilt(path):
    path.write_text("policy: hold\n")
    os.chown(path, NOBODY, NOBODY)
    return str(path)


def test_a_file_in_conf_d_of_another_user_is_refused(path):
    (path.parent / "conf.d").mkdir()
    wrong = spoilt(path.parent / "conf.d" / "99-mine.yaml")

    assert refusal(path, lambda at: config.read(at, {})).startswith(f"{wrong}: belongs to uid")


def test_a_profile_of_the_operators_that_another_user_wrote_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "PLACES", (tmp_path, *profiles.PLACES[1:]))
    wrong = spoilt(tmp_path / "mine.yaml")
    path.write_text("profiles: [mine]\n")

    assert refusal(path, lambda at: config.read(at, {})).startswith(f"{wrong}: belongs to uid")


def test_a_machine_file_that_another_user_wrote_is_refused(path, tmp_path):
    wrong = spoilt(tmp_path / "machine.yaml")

    assert refusal(path, lambda at: config.read(at, {"machine": wrong})).startswith(
        f"{wrong}: belongs to uid"
    )


@pytest.fixture
def model(path):
    """Put a copy of the shipped model where root alone can write."""
    copy = path.parent / "model.json"
    copy.write_bytes(profiles.find_model("model.json").read_bytes())
    return copy


def test_a_model_that_only_root_can_write_is_read(model):
    assert trusted.model(str(model)).model.trees


def test_a_model_that_others_may_write_is_refused(model):
    model.chmod(0o666)

    with pytest.raises(ModelError, match="may be written by others"):
        trusted.model(str(model))


def test_a_model_that_was_tampered_with_is_refused(model):
    model.write_bytes(model.read_bytes().replace(b'"base":', b'"base":1'))

    with pytest.raises(ModelError, match="its hash differs"):
        trusted.model(str(model))
