"""Wrecks: small stores of every kind, what is done to them, and the judge of what a repair makes of that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from oracle import fresh, git, git_environment, journal_of, leave, leftovers

from gitstate import PipelineState, RepairReport, VersionNotFoundError


def small(path: Path) -> PipelineState:
    """Four versions in a pack and two in the journal, with a failure and a name."""
    state = fresh(path, max_backups=None)
    for number in range(1, 5):
        state.write({"n": number})
    state.create_backup("keep")
    with pytest.raises(ZeroDivisionError), state.transaction():
        _ = 1 / 0
    state.close()
    state = fresh(path)
    for number in (5, 6):
        state.write({"n": number})
    return state


def pruned(path: Path) -> PipelineState:
    """Ten versions of which three are kept, the first by its name, and the third and fourth by a tag."""
    state = fresh(path, max_backups=2)
    for number in range(1, 11):
        state.write({"n": number})
        if number == 1:
            state.create_backup("first")
        if number == 5:
            state.prune()
            git(state, "tag", "fourth", "HEAD~1")
    state.prune()
    return state


def other_store(folder: Path, count: int = 9) -> PipelineState:
    """A store of somebody else's, with more versions and a failure."""
    folder.mkdir()
    state = fresh(folder / "pipeline.json", schema=None)
    for number in range(count):
        state.write({"theirs": number})
    with pytest.raises(ZeroDivisionError), state.transaction():
        _ = 1 / 0
    state.write({"theirs": "last"})
    return state


def take_in(state: PipelineState) -> None:
    """Imports two copies and a log that another state manager has left."""
    folder = state.path.parent / ".pipeline/backups"
    folder.mkdir(mode=0o700)
    for number in (1, 2):
        copy = folder / f"{state.path.stem}_20250301_12000{number}_000000.json.bak"
        copy.write_text(json.dumps({"imported": number}))
    line = {"timestamp": "2025-03-01T12:00:00", "operation": "old_commit", "success": True}
    (folder.parent / "transactions.log").write_text(json.dumps(line | {"pid": 7}) + "\n")
    report = state.import_backups()
    assert (len(report.names), report.audit) == (2, 1)
    shutil.rmtree(folder)
    (folder.parent / "transactions.log").unlink()


def image(path: Path) -> dict[str, bytes]:
    """What every file holds but the locks."""
    found = [each for each in path.parent.rglob("*") if each.is_file() and each.suffix != ".lock"]
    return {os.fspath(each): each.read_bytes() for each in found}


def flip(file: Path, place: int) -> None:
    """Flips a bit."""
    file.chmod(0o600)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def damage(path: Path, *, journal: bool = True) -> None:
    """A byte of the pack, of the index, of a record, and of a loose object; a ref that names nothing."""
    store = path.parent / ".pipeline"
    flip(next(store.glob("repo/objects/pack/*.pack")), 200)
    flip(next(store.glob("repo/objects/pack/*.idx")), 1100)
    flip(min(store.glob("repo/objects/[0-9a-f][0-9a-f]/*")), 15)
    (store / "repo/refs/heads/other").write_text("12" * 20 + "\n")
    (store / "repo/HEAD").unlink()
    if journal:
        flip(journal_of(path), 200)


def unpack(state: PipelineState) -> None:
    """Makes loose objects of all that is in packs."""
    packs = state.git_dir / "objects/pack"
    for pack in list(packs.glob("*.pack")):
        content = pack.read_bytes()
        for each in packs.glob(pack.stem + ".*"):
            each.unlink()
        git(state, "unpack-objects", "-q", input=content)


def loose_file(state: PipelineState, name: str) -> Path:
    """The file of an object."""
    made_id = git(state, "rev-parse", name).decode().strip()
    return state.git_dir / "objects" / made_id[:2] / made_id[2:]


def numbers(state: PipelineState) -> list[int]:
    """What the versions hold, newest first."""
    return [version.read()["n"] for version in state.log()]


def judge_repaired(
    path: Path, expected: dict[str, bytes], *, source: Path | None = None
) -> RepairReport:
    """Repairs, and sees that what is expected is there, that Git is content, and that a second repair finds nothing."""
    report = fresh(path, schema=None).repair(source)
    state = fresh(path, schema=None)
    if edited := state.verify().problems:
        # What no version has any more is somebody's, as far as anybody can know.
        assert all("somebody edited it" in line for line in edited), (edited, report)
        state.create_backup()
        assert state.verify().ok, state.verify().problems
    for version, content in expected.items():
        try:
            found = state._parts.history.version(version).content()
        except VersionNotFoundError:
            # A flipped bit has made another ref of a backup's; or nothing tells of it, and a recovered ref leads to it.
            assert git(state, "for-each-ref", "--contains", version), (version, report)
            found = git(state, "show", f"{version}:{path.name}")
        assert found == content, (version, report)
    assert fresh(path, schema=None).repair(source) == RepairReport()
    newest = next((version.serial for version in state.log(1)), 0)
    state.get_transaction_history(None)
    if newest:
        _judge_by_git(state)
    made = state.write({"probe": 1})
    assert made is not None
    assert made.serial == newest + 1
    assert leftovers(path) == []
    state.close()
    state = fresh(path, schema=None)
    assert state.verify().ok, state.verify().problems
    git(state, "gc", "-q", "--prune=now")
    assert fresh(path, schema=None).verify().ok
    _judge_by_git(state)
    leave(state)
    return report


def _judge_by_git(state: PipelineState) -> None:
    quiet = ["fsck", "--strict", "--no-progress", "--no-dangling"]
    clone = state.path.parent / "clone"
    for command in (
        [f"--git-dir={state.git_dir}", *quiet],
        [f"--git-dir={state.git_dir}", "log", "--all", "--format="],
        ["clone", "-q", "--no-local", str(state.git_dir), str(clone)],
    ):
        done = subprocess.run(
            ["git", *command], capture_output=True, check=False, env=git_environment()
        )
        said = done.stdout.strip() + done.stderr.strip()
        assert (done.returncode, said) == (0, b""), (command, done)
    shutil.rmtree(clone)
