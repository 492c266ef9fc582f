"""The command line and other machines: remote, push, pull, clone, reroot."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from command import refused, run
from oracle import git_environment, needs_git

from gitstate import PipelineState

pytestmark = needs_git


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state of two versions, one of which has a name, and an empty repository beside it."""
    command = ["git", "init", "-q", "--bare", "-b", "main", tmp_path / "backup.git"]
    subprocess.run(command, env=git_environment(), check=True)
    place = tmp_path / "first"
    place.mkdir()
    with PipelineState(place / "pipeline.json") as state:
        state.write({"phase1": {"status": "running"}})
        state.write({"phase1": {"status": "success"}})
        state.create_backup("before-speech")
    return place


@pytest.fixture
def pushed(folder: Path) -> Path:
    """The same, whose origin has everything."""
    with PipelineState(folder / "pipeline.json") as state:
        state.remotes.add("origin", folder.parent / "backup.git")
        state.push()
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def names(folder: Path) -> list[str]:
    return [each.name for each in PipelineState(folder / "pipeline.json").remotes.list()]


def test_a_remote_is_added_listed_and_removed(folder):
    assert "gitstate remote add" in run("remote", cwd=folder).err
    planned = run("remote", "add", "origin", "../backup.git", "--dry-run", cwd=folder)
    assert planned.out == f"origin would be added, at {folder.parent / 'backup.git'}\n"
    assert names(folder) == []

    done = run("remote", "add", "origin", "../backup.git", "--timeout", "7", "--json", cwd=folder)
    assert done.document == {
        "dry_run": False,
        "remote": {
            "name": "origin",
            "url": str(folder.parent / "backup.git"),
            "push": "manual",
            "timeout": 7.0,
        },
    }
    head, row = run("remote", cwd=folder).out.splitlines()
    assert head.split() == ["name", "push", "stands", "last", "push", "url"]
    assert row.split() == [
        "origin",
        "manual",
        "2",
        "ahead",
        "never",
        done.document["remote"]["url"],
    ]

    assert (
        "2 versions that it lacks may be pruned"
        in run("remote", "remove", "origin", "--dry-run", cwd=folder).out
    )
    assert names(folder) == ["origin"]
    done = run("remote", "remove", "origin", cwd=folder)
    assert done.out == ""
    assert "2 versions that it lacks may be pruned" in done.err
    assert names(folder) == []


def test_what_cannot_be_a_remote_is_status_16_and_no_password_is_repeated(pushed):
    for arguments in (["remote", "add", "x"], ["clone"]):
        done = run(*arguments, "https://me:secret@host/x", "-vv", cwd=pushed, check=False)
        assert done.status == 16
        assert "it holds a password" in done.err
        assert "Traceback" in done.err
        assert "secret" not in done.out + done.err

    assert "remote remove origin" in refused(16, "remote", "add", "origin", "/srv/x", cwd=pushed)
    error = run("--json", "push", "elsewhere", cwd=pushed, check=False).error
    assert (error["code"], error["remote"]) == ("no-such-remote", "elsewhere")
    assert "remote add elsewhere URL" in error["hint"]
    refused(2, "remote", "add", "x", "/srv/x", "--timeout", "nan", cwd=pushed)
    assert "remove" in refused(2, "remote", "remvoe", cwd=pushed)
    assert names(pushed) == ["origin"]


def test_the_five_steps_to_a_second_machine(folder):
    top = folder.parent
    run("remote", "add", "origin", "../backup.git", cwd=folder)  # the first of them
    before = everything(top)
    assert run("push", "--dry-run", cwd=folder).out == "2 versions would be sent to origin\n"
    assert everything(top) == before

    sent = run("push", cwd=folder)
    assert sent.out == ""
    assert "  backups/before-speech  new, " in sent.err
    assert sent.err.endswith("2 versions sent to origin\n")
    made = run("clone", "backup.git", "second", "--json", cwd=top).document
    assert made["path"] == "second/pipeline.json"
    assert made["remote"]["url"] == str(top / "backup.git")
    assert made["version"]["serial"] == 2

    with PipelineState(top / "second" / "pipeline.json").transaction() as txn:
        txn.data["phase2"] = {}
    moved = run("push", "--json", cwd=top / "second").document
    assert (moved["remote"]["name"], moved["versions"], moved["notes"]) == ("origin", 1, [])
    assert moved["updates"][0] == {
        "name": "refs/heads/main",
        "old": made["version"]["id"],
        "new": PipelineState(top / "second" / "pipeline.json").version("HEAD").id,
    }
    taken = run("pull", cwd=folder)
    assert taken.out == ""
    assert "1 version taken from origin\nversion 3 (" in taken.err
    assert PipelineState(folder / "pipeline.json").read()["phase2"] == {}
    again = run("pull", "--json", cwd=folder).document
    assert (again["updates"], again["version"]["serial"]) == ([], 3)


def test_who_is_behind_is_told_to_pull_and_who_has_diverged_sees_both_sides(pushed):
    other = pushed.parent / "other"
    with PipelineState.clone(pushed.parent / "backup.git", other / "pipeline.json") as theirs:
        theirs.write({"phase1": {"status": "failed"}})
        theirs.push()
        there = theirs.version("HEAD").id

    assert "hint: gitstate pull origin" in refused(16, "push", cwd=pushed)
    assert run("pull", "--dry-run", cwd=pushed).out == "1 version would be taken from origin\n"
    refused(13, "pull", "--expect", "HEAD~1", cwd=pushed)
    with PipelineState(pushed / "pipeline.json") as state:
        state.write({"phase1": {"status": "skipped"}})
        here = state.version("HEAD").id
    before = everything(pushed)

    error = run("push", "--json", cwd=pushed, check=False).error
    assert (error["code"], error["ours"], error["theirs"]) == ("remote-diverged", here, there)
    assert "gitstate remote -v" in error["hint"]
    assert "diverged, 1 ahead, 1 behind" in run("remote", "list", cwd=pushed).out
    whole = run("remote", "-v", cwd=pushed).out
    rows = [line.rstrip().split(maxsplit=1) for line in whole.splitlines()]
    assert rows[0] == ["origin", "diverged, 1 ahead, 1 behind"]
    assert ["here", here] in rows
    assert ["there", there] in rows
    assert "  error      origin and this state went apart" in whole
    document = run("--json", "remote", cwd=pushed).document
    assert (document["ours"], document["remotes"][0]["theirs"]) == (here, there)
    assert document["remotes"][0]["last_push"].endswith("Z")
    contact = str(pushed / ".pipeline" / "contacts" / "origin.json")
    assert {**everything(pushed), contact: b""} == {**before, contact: b""}


def test_a_clone_takes_no_place_that_is_taken_and_a_dry_run_none_at_all(pushed):
    top = pushed.parent
    (top / "temporary").mkdir()
    variables = {"TMPDIR": str(top / "temporary")}
    before = everything(top)
    planned = run("clone", "backup.git", "new", "--dry-run", cwd=top, env=variables)
    assert "would be cloned to new/pipeline.json\nversion 2 (" in planned.out
    assert not (top / "new").exists()
    assert list((top / "temporary").iterdir()) == []
    for how in ([], ["--dry-run"]):
        assert "gitstate clone" in refused(16, "clone", "backup.git", "first", *how, cwd=top)
    assert "than other.json" in refused(16, "clone", "backup.git", "other.json", cwd=top)
    assert everything(top) == before


def test_what_a_remote_says_does_not_take_hold_of_the_terminal(pushed):
    hook = pushed.parent / "backup.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nprintf '\\033[2Jno\\n' >&2\nexit 1\n")
    hook.chmod(0o755)
    PipelineState(pushed / "pipeline.json").write({"phase1": {}})

    said = refused(16, "push", cwd=pushed)
    assert "[2Jno" in said
    assert "\x1b" not in said
    assert "\x1b" not in run("remote", "-v", cwd=pushed).out


def test_no_line_is_forged_by_the_message_of_a_version_that_comes(pushed):
    with PipelineState(pushed / "pipeline.json") as state:
        state.write({"phase1": {}}, message="x\nerror: forged\nhint: forged")
        state.push()
        came = run("clone", "backup.git", "copy", cwd=pushed.parent)
        state.write({}, message="y\nerror: forged\nhint: forged")
        state.push()
    pulled = run("pull", cwd=pushed.parent / "copy")

    assert r" x\nerror: forged\nhint: forged" in came.err
    assert r" y\nerror: forged\nhint: forged" in pulled.err


def test_new_hashes_are_given_only_to_who_says_yes(tmp_path):
    with PipelineState(tmp_path / "pipeline.json", max_backups=1) as state:
        for number in range(4):
            state.write({"phase1": {"metrics": {"n": number}}})
    before = state.version("HEAD").id

    assert run("reroot", "--dry-run", cwd=tmp_path).out == "2 versions would get new hashes\n"
    assert "--yes" in refused(2, "reroot", cwd=tmp_path)
    refused(13, "reroot", "--yes", "--expect", "HEAD~1", cwd=tmp_path)
    assert state.version("HEAD").id == before

    done = run("reroot", "--yes", "--json", cwd=tmp_path).document
    assert done["dry_run"] is False
    assert done["ids"][before] == PipelineState(state.path).version("HEAD").id
    assert "nothing was pruned" in run("reroot", cwd=tmp_path).err
