# SPDX-License-Identifier: Apache-2.0

"""What the operator says last counts, every word keeps its origin, and nonsense is told where it stands."""

import pytest

from numad_py.daemon import config
from numad_py.daemon.config import Config, Mode
from numad_py.profile import ProfileError


@pytest.fixture
def written(tmp_path):
    """Give a function that writes numad.yaml and its conf.d, and gives the path of the first."""

    def write(text="", **conf_d):
        path = tmp_path / "numad.yaml"
        path.write_text(text)
        (tmp_path / "conf.d").mkdir(exist_ok=True)
        for name, part in conf_d.items():
            (tmp_path / "conf.d" / f"{name}.yaml").write_text(part)
        return path

    return write


def refusal(path, **command_line):
    with pytest.raises(ProfileError) as refused:
        config.read(path, command_line)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def test_without_a_word_everything_is_seen_and_nothing_moved(written):
    origins = config.read(written(), {})

    assert origins.config == Config()
    assert origins.config.mode is Mode.OBSERVE
    assert origins.of == {}


def test_a_packaged_file_that_is_not_there_is_no_mistake(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "DEFAULT_PATH", tmp_path / "numad.yaml")

    assert config.read(None, {}).config == Config()


def test_the_packaged_file_is_read_where_none_is_named(monkeypatch, written):
    monkeypatch.setattr(config, "DEFAULT_PATH", written("mode: act\n"))

    assert config.read(None, {}).config.mode is Mode.ACT


def test_conf_d_wins_over_the_file_by_name_and_the_command_line_over_all(written):
    path = written(
        "mode: act\nperiod_s: 1\ntrace: /a\nprofiles: [hold]\n",
        b="trace: /b\nperiod_s: 3\n",
        a="trace: /c\nperiod_s: 2\n",
    )

    origins = config.read(path, {"trace": "/d"})

    assert origins.config == Config(Mode.ACT, 3.0, ("hold",), trace="/d")
    conf_d = path.parent / "conf.d"
    assert origins.of == {
        "mode": str(path),
        "period_s": str(conf_d / "b.yaml"),
        "profiles": str(path),
        "trace": "command line",
    }


def test_every_key_is_shown_with_its_value_and_origin(written):
    path = written("period_s: 2\n")

    lines = config.read(path, {"trace": "/x.jsonl", "trace_ring_mb": 64}).lines()

    shown = [tuple(part.strip() for part in line.split("#")) for line in lines]
    assert shown == [
        ("mode: observe", "default"),
        ("period_s: 2.0", str(path)),
        ("profiles: [default, hold, interleave]", "default"),
        ("user_profiles: []", "default"),
        ("labels: {}", "default"),
        ("deny: []", "default"),
        ("trace: /x.jsonl", "command line"),
        ("trace_ring_mb: 64", "command line"),
        ("budget_core_share: 0.01", "default"),
        ("longest_walk_ms: 5.0", "default"),
        ("first_walk_ms: 100.0", "default"),
        ("assume_default_mempolicy: false", "default"),
        ("investigate: true", "default"),
        ("machine: null", "default"),
        ("metrics_textfile: metrics.prom", "default"),
        ("metrics_period_s: 15.0", "default"),
    ]


def test_what_is_shown_is_itself_a_configuration(written):
    said = r"""
mode: act
profiles: [hold]
user_profiles: [hold]
labels: {"/slurm/uid_*/job_[0-9]*": hold, '/dev\x2dhuge "a"': hold}
deny: [/init.scope, "/**/kubepods-pod1.slice", "/7"]
"""
    origins = config.read(written(said), {})

    again = config.read(written("\n".join(origins.lines())), {})

    assert again.config == origins.config


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mode: on\n", "mode: found a bare on, allowed is"),
        ("mode: acting\n", "mode: found 'acting', allowed is observe, act"),
        ("period_s: 0.01\n", "period_s: found 0.01; allowed is 0.1 to 3600.0"),
        ("period_s: fast\n", "period_s: found 'fast', allowed is a number"),
        (
            "period: 1\n",
            "found the unknown key 'period', allowed is mode, period_s, profiles, user_profiles, labels, deny",
        ),
        ("profiles: default\n", "profiles: found 'default', allowed is a list"),
        (
            "profiles: [default, nonsense]\n",
            "profiles: found 'nonsense', allowed is default, gpu-rank, hold, interleave",
        ),
        ("profiles: [/etc/passwd]\n", "profiles: found '/etc/passwd', allowed is default"),
        (
            "user_profiles: [bold]\n",
            "user_profiles: found 'bold', allowed is one of profiles: default, hold, interleave",
        ),
        ("labels: {/a: bold}\n", "labels: /a: found 'bold', allowed is one of profiles: default"),
        ("labels: [/a]\n", "labels: found a list, allowed is a mapping"),
        ("labels: {a: hold}\n", "labels: found a mapping; a: a pattern is a path from the mount on"),
        ("deny: [/a**]\n", "deny: found a list; /a**: ** stands for whole components"),
        ("trace: 7\n", "trace: found 7, allowed is"),
        ("trace_ring_mb: 0\n", "trace_ring_mb: found 0; at least 1"),
        ("trace_ring_mb: 64\n", "trace_ring_mb: there is no trace to keep the last of"),
        ("trace: /x.jsonl\n", "trace: give trace_ring_mb, too"),
        ("first_walk_ms: 501\n", "first_walk_ms: found 501; allowed is 0 to 500"),
        ("metrics_textfile: /x.txt\n", "found '/x.txt'; node_exporter reads only names that end in .prom"),
        ("metrics_period_s: 0.5\n", "metrics_period_s: found 0.5; allowed is 1 to 3600"),
        ("mode: [act\n", "line 2 is not YAML"),
        ("- act\n", "found a list, allowed is a mapping"),
    ],
)
@pytest.mark.parametrize("place", ["numad.yaml", "conf.d/late.yaml"])
def test_a_refusal_is_one_sentence_that_names_the_file_and_the_key(written, place, text, told):
    path = written(text) if place == "numad.yaml" else written("mode: act\n", late=text)

    sentence = refusal(path)

    assert sentence.startswith(f"{path.parent / place}: ")
    assert told in sentence


def test_what_the_command_line_says_wrong_is_told_as_such(written):
    assert refusal(written(), trace_ring_mb=64).startswith("command line: trace_ring_mb: there is no trace")
    assert refusal(written(), trace_ring_mb=0) == "command line: trace_ring_mb: found 0; at least 1"


def test_a_ring_may_be_given_apart_from_its_trace(written):
    path = written("trace: /a.jsonl\n", ring="trace_ring_mb: 64\n")

    assert config.read(path, {}).config.trace_ring_mb == 64


def test_a_profile_that_is_wrong_in_itself_is_told_before_anything_starts(written, monkeypatch, tmp_path):
    (tmp_path / "mine.yaml").write_text("policy: hold\nguard: {cooldown_s: -1}\n")
    monkeypatch.setattr(config.profiles, "PLACES", (tmp_path,))

    sentence = refusal(written("profiles: [mine]\n"))

    assert sentence == f"{tmp_path}/mine.yaml: guard: cooldown_s: found -1; must not be negative"


LONG = "x" * 300  # a name that no folder can have: root, too, cannot look behind it


def test_a_way_to_the_packaged_file_that_cannot_be_gone_is_told_and_not_taken_for_none(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "DEFAULT_PATH", tmp_path / LONG / "numad.yaml")

    assert refusal(None) == f"{tmp_path}/{LONG}/numad.yaml: cannot be read: File name too long"


def test_a_conf_d_that_cannot_be_read_is_told_and_not_left_out(tmp_path):
    (tmp_path / "numad.yaml").touch()
    (tmp_path / "conf.d").symlink_to("conf.d")

    assert refusal(tmp_path / "numad.yaml").startswith(f"{tmp_path}/conf.d: cannot be read: Too many levels")


def test_a_place_of_profiles_that_cannot_be_looked_into_is_told(written, monkeypatch, tmp_path):
    (tmp_path / "mine.yaml").write_text("policy: hold\n")
    monkeypatch.setattr(config.profiles, "PLACES", (tmp_path / LONG, tmp_path))
    monkeypatch.setattr(config.profiles, "names", lambda: ("mine",))

    sentence = refusal(written("profiles: [mine]\n"))

    assert sentence == f"{tmp_path}/{LONG}/mine.yaml: cannot be read: File name too long"


def test_a_file_that_is_not_there_is_told(tmp_path):
    assert (
        refusal(tmp_path / "none.yaml") == f"{tmp_path}/none.yaml: cannot be read: No such file or directory"
    )
