# SPDX-License-Identifier: Apache-2.0

"""What an operator wrote is understood exactly, or refused in one sentence."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.profile import Profile, ProfileError, from_mapping, load_yaml, parse_yaml, read


@dataclass(frozen=True)
class Nothing:
    """A policy without parameters."""


@dataclass(frozen=True)
class Wait:
    """A policy with two parameters."""

    share_above: float = 0.1
    patience: int = 2
    _streak: dict = field(default_factory=dict, init=False)

    def __post_init__(self):
        if not 0 <= self.share_above <= 1:
            raise ValueError("share_above: a share is between 0 and 1")
        if self.patience > 1000 * self.share_above:
            raise ValueError("so much patience needs a larger share")


@dataclass(frozen=True)
class Limits:
    """What a guard allows."""

    cooldown_s: float = 10.0


class Mode(StrEnum):
    """What a service may do."""

    OBSERVE = "observe"
    ACT = "act"


@dataclass(frozen=True)
class Service:
    """A configuration with a field of every kind."""

    mode: Mode
    ring: Literal["small", "large"] = "small"
    dry_run: bool = False
    trace: str | None = None
    deny: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    rules: tuple[Limits, ...] = ()


POLICIES = {"hold": Nothing, "wait": Wait}


def read_text(folder: Path, text: str, name="p.yaml") -> Profile:
    path = folder / name
    path.write_text(text)
    return read(path, POLICIES, Limits)


def refusal(call, *arguments) -> str:
    with pytest.raises(ProfileError) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_profile_is_its_policy_its_parameters_and_its_limits(tmp_path):
    text = "policy: wait\nparameters: {share_above: 0.5, patience: 3}\nguard: {cooldown_s: 1.5}\n"

    profile = read_text(tmp_path, text, "night.yaml")

    assert profile == Profile("night", "wait", Wait(0.5, 3), Limits(1.5))


def test_what_is_left_out_has_its_default(tmp_path):
    profile = read_text(tmp_path, "policy: wait")

    assert (profile.parameters, profile.guard) == (Wait(), Limits())


def test_a_whole_number_is_a_number(tmp_path):
    profile = read_text(tmp_path, "policy: wait\nguard: {cooldown_s: 3}")

    assert profile.guard.cooldown_s == 3.0
    assert isinstance(profile.guard.cooldown_s, float)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("policy: waits", "p.yaml: policy: found 'waits', allowed is hold, wait"),
        ("policy: no", "p.yaml: policy: found a bare no, allowed is true, false, a plain decimal number"),
        ("policy: 'no'", "p.yaml: policy: found 'no', allowed is hold, wait"),
        ("policy: true", "p.yaml: policy: found true, allowed is text"),
        ("guard: {}", "p.yaml: policy: found no value, allowed is one"),
        ("policy: hold\nguard:", "p.yaml: guard: found nothing, allowed is a mapping of keys to values"),
        ("policy: hold\npolicy: wait", "p.yaml: policy: found the key twice, allowed is once"),
        (
            "policy: hold\nperiod: 1",
            "p.yaml: found the unknown key 'period', allowed is policy, parameters, guard",
        ),
        (
            "policy: hold\nparameters: {a: 1}",
            "p.yaml: parameters: found the unknown key 'a', allowed is none",
        ),
        ("policy: wait\nparameters: {patience: true}", "patience: found true, allowed is a whole number"),
        ("policy: wait\nparameters: {patience: 1.5}", "patience: found 1.5, allowed is a whole number"),
        ("policy: wait\nparameters: {patience: [1]}", "patience: found a list, allowed is a whole number"),
        (
            "policy: wait\nparameters: {patience: {a: 1}}",
            "patience: found a mapping, allowed is a whole number",
        ),
        ("policy: wait\nparameters: {share_above: much}", "share_above: found 'much', allowed is a number"),
        (
            "policy: wait\nparameters: {share_above: 1.5}",
            "parameters: share_above: found 1.5; a share is between 0 and 1",
        ),
        ("policy: wait\nparameters: {patience: 999}", "parameters: so much patience needs a larger share"),
        (
            "policy: wait\nparameters: {share_above: 1e999}",
            "share_above: found inf, allowed is a finite number",
        ),
        ("policy: wait\nparameters: {share_above: .nan}", "share_above: found a bare .nan, allowed is"),
        ("policy: wait\nparameters: {patience: 010}", "patience: found a bare 010, allowed is"),
        ("policy: wait\nparameters: {patience: 1:30}", "patience: found a bare 1:30, allowed is"),
        ("policy: wait\nparameters: {_streak: {}}", "found the unknown key '_streak'"),
        (
            "policy: &a hold",
            "p.yaml: policy: found an alias, an anchor or a tag, allowed is the value itself",
        ),
        ("policy: *a", "p.yaml: policy: found an alias, an anchor or a tag"),
        ("policy: !!python/name:os.system", "p.yaml: policy: found an alias, an anchor or a tag"),
        ("--- {policy: hold}\n--- {policy: hold}", "p.yaml: found 2 documents, allowed is one"),
        ("[policy, hold]", "p.yaml: found a list, allowed is a mapping of keys to values"),
        ("? [a]\n: b", "p.yaml: found a key that is no word, allowed is keys that are words"),
        ("policy: [", "p.yaml: line 1 is not YAML: "),
        ("policy: \0", "p.yaml: not YAML: "),
        ('policy: "\\UFFFFFFFF"', "p.yaml: not YAML: "),
        ("[" * 100_000, "found deeper nesting, allowed is 16 levels"),
        ("", "p.yaml: policy: found no value"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_sentence(tmp_path, text, sentence):
    said = refusal(read_text, tmp_path, text)

    assert said.startswith(str(tmp_path))
    assert sentence in said
    assert "\n" not in said


def test_no_profile_can_have_the_name_that_switches_a_job_off(tmp_path):
    said = refusal(read_text, tmp_path, "policy: hold", "off.yaml")

    assert "off.yaml: found the name off" in said


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    missing = tmp_path / "absent.yaml"
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"policy: h\xf6ld")

    assert refusal(load_yaml, missing) == f"{missing}: cannot be read: No such file or directory"
    assert refusal(load_yaml, latin) == f"{latin}: byte 9 is not UTF-8"


@pytest.mark.parametrize("text", ["", "# All defaults.\n", "---\n"])
def test_a_file_without_content_is_an_empty_mapping(text):
    assert parse_yaml(text, "f") == {}


def test_a_plain_word_is_text_and_a_decimal_number_is_a_number():
    text = "{a: 2026-11-20, b: 7, c: -1.5e3, d: ~, e: 'true', f: true, g: -0, h: '7', i: word}"

    values = parse_yaml(text, "f")

    assert values == {
        "a": "2026-11-20",
        "b": 7,
        "c": -1500.0,
        "d": None,
        "e": "true",
        "f": True,
        "g": 0,
        "h": "7",
        "i": "word",
    }


def test_every_kind_of_field_is_converted():
    text = """
        mode: act
        ring: large
        dry_run: true
        trace: /var/lib/x
        deny: [a, b]
        labels: {/slurm: default}
        limits: {cooldown_s: 1}
        rules: [{cooldown_s: 2}, {}]
    """

    service = from_mapping(Service, parse_yaml(text, "f"), "f")

    assert service == Service(
        mode=Mode.ACT,
        ring="large",
        dry_run=True,
        trace="/var/lib/x",
        deny=("a", "b"),
        labels={"/slurm": "default"},
        limits=Limits(1.0),
        rules=(Limits(2.0), Limits(10.0)),
    )
    assert isinstance(service.mode, Mode)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mode: atc", "f: mode: found 'atc', allowed is observe, act"),
        ("{mode: act, ring: huge}", "f: ring: found 'huge', allowed is small, large"),
        ("{mode: act, dry_run: 1}", "f: dry_run: found 1, allowed is true or false"),
        ("{mode: act, trace: 1}", "f: trace: found 1, allowed is text or nothing"),
        ("{mode: act, deny: a}", "f: deny: found 'a', allowed is a list"),
        ("{mode: act, deny: [a, 1]}", "f: deny: item 2: found 1, allowed is text"),
        ("{mode: act, labels: [a]}", "f: labels: found a list, allowed is a mapping of keys to values"),
        ("{mode: act, labels: {/slurm: 1}}", "f: labels: /slurm: found 1, allowed is text"),
        ("{mode: act, limits: 3}", "f: limits: found 3, allowed is a mapping of keys to values"),
        ("{mode: act, limits: {x: 3}}", "f: limits: found the unknown key 'x', allowed is cooldown_s"),
        (
            "{mode: act, rules: [{x: 3}]}",
            "f: rules: item 1: found the unknown key 'x', allowed is cooldown_s",
        ),
    ],
)
def test_every_kind_of_field_is_refused_by_its_place(text, sentence):
    assert refusal(from_mapping, Service, parse_yaml(text, "f"), "f") == sentence


def words_of_yaml():
    pieces = [
        "a",
        "no",
        "1",
        ".",
        "0x",
        "_",
        ":",
        ": ",
        "-",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\n",
        "  ",
        "'",
        '"',
    ]
    pieces += [
        "#",
        "&a",
        "*a",
        "!",
        "!!int",
        "%YAML 1.1",
        "---",
        "...",
        "|",
        ">",
        "\\U",
        "FFFFFFFF",
        "?",
        "<<",
        "\t",
        "\0",
    ]
    return st.lists(st.sampled_from(pieces), max_size=30).map("".join)


@given(st.text() | words_of_yaml())
def test_no_text_raises_anything_but_a_profile_error(text):
    with suppress(ProfileError):
        from_mapping(Service, parse_yaml(text, "f"), "f")
