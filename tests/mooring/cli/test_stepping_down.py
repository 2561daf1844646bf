"""Whether all but the runner can do without root, and what it takes to let them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.cli import stepping_down
from tests.sandboxes import readable_folder

Folders = tuple[Path, Path, Path]


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Folders]:
    """Data, runner, journal; and nothing in the way: where this Python is depends on the machine."""
    monkeypatch.setattr(stepping_down, "_code", lambda: iter(()))
    with readable_folder() as folder:
        data = folder / "data"
        data.mkdir(mode=0o755)
        yield data, data / "runner", data / "journal"


def test_nothing_is_in_the_way_of_a_fresh_installation(folders: Folders) -> None:
    assert stepping_down.obstacle(*folders, 8000) == ""


def test_a_folder_that_others_may_not_enter_is_named(folders: Folders) -> None:
    data = folders[0]
    data.parent.chmod(0o700)
    assert stepping_down.obstacle(*folders, 8000) == f"no other user may enter {data.parent}"


def test_a_secret_that_others_may_not_read_is_named(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = folders[0].parent / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    monkeypatch.setenv("MOORING_SECRET_KEY_FILE", str(secret))
    assert stepping_down.obstacle(*folders, 8000) == f"no other user may read {secret}"


@pytest.mark.skipif("os.geteuid() != 0", reason="only root's own is given away")
def test_a_folder_with_other_things_in_it_is_not_given_away(folders: Folders) -> None:
    data = folders[0]
    (data / "web.lock").touch()
    (data / "thesis.tex").touch()
    assert stepping_down.obstacle(*folders, 8000).startswith(f"{data}/thesis.tex is not Mooring's own")


def test_a_port_of_roots_is_named(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = folders[0].parent / "limit"
    limit.write_text("1024\n")
    monkeypatch.setattr(stepping_down, "_UNPRIVILEGED_PORTS", limit)
    assert stepping_down.obstacle(*folders, 443) == "port 443 is for root alone"
    limit.write_text("80\n")
    assert stepping_down.obstacle(*folders, 443) == ""


@pytest.mark.skipif("os.geteuid() != 0", reason="only root can give")
def test_what_root_left_is_given_but_for_the_runners_and_what_has_a_second_name(folders: Folders) -> None:
    data, runner, journal = folders
    outside = data.parent / "outside"
    outside.touch()
    (runner / "store").mkdir(parents=True)
    (data / "broker" / "deep").mkdir(parents=True)
    (data / "mooring.sqlite3").touch()
    os.link(outside, data / "web.lock")
    (data / "static").symlink_to(outside)
    assert stepping_down.give(*folders) == ""
    given = {path for path in data.rglob("*") if path.lstat().st_uid == stepping_down.USER}
    assert given == {
        data / "broker",
        data / "broker-control",
        data / "mail",
        data / "broker" / "deep",
        data / "mooring.sqlite3",
        data / "static",
        journal,
    }
    assert outside.stat().st_uid == runner.stat().st_uid == data.stat().st_uid == 0
    assert data.stat().st_gid == stepping_down.USER
    assert stat.S_IMODE(data.stat().st_mode) == 0o1775


@pytest.mark.skipif("os.geteuid() != 0", reason="only root can give")
def test_a_file_system_that_knows_no_owners_is_told(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    why = stepping_down.give(*folders)
    assert why == f"{folders[0]} cannot be given to another user (Operation not permitted)"
