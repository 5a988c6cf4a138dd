# SPDX-License-Identifier: Apache-2.0

"""``numad-py label``: opt a cgroup in or out, and tell of all labels."""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from numad_py.cli import found
from numad_py.cli.asking import NoAnswer, ask
from numad_py.daemon import config
from numad_py.daemon.log import printable
from numad_py.daemon.service import NoCgroupError
from numad_py.kernel import cgroup
from numad_py.profile import ProfileError
from numad_py.sense import opt_in
from numad_py.sense.opt_in import Label, Rules, Said


def label(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="CGROUP|PID",
            help="A cgroup, by its path, or the one that a process is in.",
            show_default=False,
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Argument(metavar="PROFILE|off", help="What it is to be.", show_default=False)
    ] = None,
    *,
    clear: Annotated[bool, typer.Option("--clear", help="Take its label off.")] = False,
    as_user: Annotated[
        bool,
        typer.Option("--as-user", help="Refuse what users may not name: for hooks that speak for a user."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All labels, for machines.")] = False,
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="The daemon's configuration file.")
    ] = None,
) -> None:
    """Opt a cgroup in or out, or list all labels.

    What is said of a cgroup holds for all below it. Root may label any, and its owner may; the daemon
    keeps what others say of a cgroup in which all processes are theirs.
    """
    lists = target is None
    if lists == (profile is not None or clear) or (profile is not None and clear) or (as_json and not lists):
        raise typer.BadParameter("say CGROUP PROFILE, or CGROUP --clear, or neither to list all labels")
    rules = config.read(config_file, {}).config.rules
    if target is None:
        show(replace(rules, said=said()), as_json=as_json)
    else:
        put(target, profile, rules, by_user=as_user or os.geteuid() != 0)


def said() -> dict[int, Said]:
    """Give what the daemon was told that we may know; nothing where none runs."""
    try:
        labels = ask("Labels")["labels"]
    except NoAnswer:
        return {}
    return {each["cgroup_id"]: Said(each["uid"], each["profile"]) for each in labels}


def show(rules: Rules, *, as_json: bool, root: Path = Path("/")) -> None:
    """Print every label, whether it counts, and who said so."""
    mount = _mount(root)
    words = opt_in.assign(cgroup.walk(mount), mount, rules).words
    if as_json:
        print(msgspec.json.format(msgspec.json.encode([_values(word) for word in words])).decode())
    else:
        print("\n".join(_table(words)))


def put(target: str, profile: str | None, rules: Rules, *, by_user: bool, root: Path = Path("/")) -> None:
    """Label a cgroup, or take its label off; tell what came of it."""
    if profile is not None and (why := opt_in.unnameable(profile, rules, by_user=by_user)):
        raise ProfileError(f"{profile!r}: {why}")
    mount = _mount(root)
    path = _path(target, mount, root)
    try:
        _write(mount, path, profile)
    except PermissionError as refusal:
        _say(path, profile, refusal)
        return
    if profile is None:
        with contextlib.suppress(
            NoAnswer
        ):  # what was said through the daemon, if anything was, and if it runs
            ask("SetLabel", cgroup=path, profile=None)
    ours = [word for word in _said_on_the_way_to(path, mount, rules) if word.source == opt_in.ON_DIRECTORY]
    print("\n".join(_table(ours)) if ours else f"{printable(path)} bears no label")


def _mount(root: Path) -> Path:
    mount = cgroup.read_mount_point(root)
    if mount is None:
        raise NoCgroupError
    return mount


def _path(target: str, mount: Path, root: Path) -> str:
    """Give the path below the mount of what the user named."""
    if target.isascii() and target.isdecimal():
        named, path = f"the cgroup of process {target}", _of_process(int(target), root)
    else:
        named, path = target, f"/{target.removeprefix(str(mount))}"
    parts = [part for part in path.split("/") if part]
    if not parts:
        raise PermissionError(f"{named} is the root cgroup, which cannot be labelled")
    if {".", ".."} & {*parts} or not mount.joinpath(*parts).is_dir():
        raise FileNotFoundError(f"{named}: there is no cgroup {printable('/'.join(parts))} below {mount}")
    return f"/{'/'.join(parts)}"


def _of_process(pid: int, root: Path) -> str:
    try:
        return cgroup.path_of(pid, root)
    except found.GONE:
        raise ProcessLookupError(errno.ESRCH, "no such process", f"PID {pid}") from None


def _write(mount: Path, path: str, profile: str | None) -> None:
    try:
        cgroup.set_label(mount / path[1:], profile)
    except PermissionError:
        owner, _ = cgroup.look(mount, path)
        raise PermissionError(
            f"{printable(path)} belongs to uid {owner.owner_uid}: only root and its owner may label it"
        ) from None
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        raise OSError(f"{mount} takes no labels: cgroups have user attributes since Linux 5.7") from None


def _say(path: str, profile: str | None, refusal: PermissionError) -> None:
    """Have the daemon keep the label of a cgroup whose directory is not the user's."""
    try:
        ask("SetLabel", cgroup=path, profile=profile)
    except NoAnswer as error:
        raise PermissionError(f"{refusal}; and through the daemon: {error}") from None
    kept = f"{profile}, as the daemon was told" if profile else "no longer what the daemon was told"
    print(f"{printable(path)}  {kept}; numad-py status shows what holds")


def _said_on_the_way_to(path: str, mount: Path, rules: Rules) -> list[Label]:
    """Give what is said of a cgroup, and decide on it by what is said above it."""
    parts = path.split("/")
    paths = ["/", *("/".join(parts[: count + 1]) for count in range(1, len(parts)))]
    directories = [cgroup.look(mount, each)[0] for each in paths]
    return [word for word in opt_in.assign(directories, mount, rules).words if word.path == path]


def _table(words: tuple[Label, ...] | list[Label]) -> Iterator[str]:
    if not words:
        yield "no cgroup is labelled"
        return
    rows = [(printable(word.path), printable(word.profile), printable(word.said_by)) for word in words]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, word in zip(rows, words, strict=True):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"{cells}  {f'does not count: {printable(word.why)}' if word.why else 'counts'}"


def _values(word: Label) -> dict[str, Any]:
    return {
        "path": printable(word.path),
        "cgroup_id": word.cgroup_id,
        "profile": printable(word.profile),
        "said_by": printable(word.said_by),
        "uid": word.uid,
        "counts": not word.why,
        "why": printable(word.why) or None,
    }
