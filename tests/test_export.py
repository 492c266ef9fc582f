"""Export: what is written elsewhere is what the history holds, and stock Git can use the bundle."""

import errno
import json
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from oracle import (
    Call,
    file_calls,
    fork,
    forks,
    fresh,
    git,
    git_environment,
    leave,
    needs_git,
    places_object,
)

from gitstate import PipelineState, StateReadError, StateWriteError, VersionNotFoundError, files


@pytest.fixture
def state(path: Path) -> PipelineState:
    """Versions in a pack, in the journal and beside, a named backup, and a failure."""
    state = fresh(path)
    for number in range(1, 4):
        state.write({"n": number})
    state.create_backup("keep")
    state.checkpoint()
    with pytest.raises(ZeroDivisionError), state.transaction():
        _ = 1 / 0
    state.write({"n": 4})
    leave(state)
    return fresh(path)


def _run(*arguments: object) -> str:
    done = subprocess.run(
        ["git", *map(str, arguments)], env=git_environment(), check=True, capture_output=True
    )
    return done.stdout.decode()


def test_a_version_is_written_with_its_bytes(state: PipelineState, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("older")

    assert state.export(target, 2) == target
    assert target.read_bytes() == b'{\n  "n": 2\n}\n'
    assert state.export(target, "HEAD") == target
    assert target.read_bytes() == state.path.read_bytes()
    assert sorted(os.listdir(tmp_path)) == [".pipeline", "out.json", *_own()]
    with pytest.raises(VersionNotFoundError):
        state.export(tmp_path / "none", 9)
    assert not (tmp_path / "none").exists()


def _own() -> list[str]:
    return ["pipeline.json", "pipeline.json.lock"]


def test_all_versions_are_files_of_a_folder(state: PipelineState, tmp_path: Path) -> None:
    folder = state.export(tmp_path / "a" / "b")

    found = {name.name[:-13]: json.loads(name.read_text()) for name in folder.iterdir()}
    assert found == {f"pipeline_00000{number}": {"n": number} for number in range(1, 5)}
    assert state.export(folder) == folder
    assert len(os.listdir(folder)) == 4


def test_what_another_prunes_meanwhile_is_left_out_and_the_named_ones_are_not(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = fresh(path, max_backups=2)
    for number in range(1, 9):
        state.write({"n": number})
        if number == 1:
            state.create_backup("first")
    assert len(list(state.log())) == 8  # their commits are known from here on
    replace = files.replace

    def prune_behind_the_first(target: Path, content: bytes) -> None:
        replace(target, content)
        fresh(path).prune()

    monkeypatch.setattr(files, "replace", prune_behind_the_first)

    folder = state.export(tmp_path / "folder")

    found = sorted(json.loads(name.read_text())["n"] for name in folder.iterdir())
    assert found == [1, 6, 7, 8]


def test_versions_whose_names_look_alike_are_files_of_their_own(path: Path, tmp_path: Path) -> None:
    state = fresh(path, max_backups=0)
    state.write({"is": "named"})
    state.create_backup("import_pipeline_20250301_120000_000000")
    state.write({"is": "current"})
    state.prune()
    old = tmp_path / "old/backups/pipeline_20250301_120000_000000.json.bak"
    old.parent.mkdir(parents=True)
    old.write_text('{"is": "imported"}')
    state.import_backups(old.parent.parent)

    folder = state.export(tmp_path / "folder")

    found = sorted(json.loads(name.read_text())["is"] for name in folder.iterdir())
    assert found == ["current", "imported", "named"]


@needs_git
def test_a_bundle_is_the_whole_history_for_stock_git(state: PipelineState, tmp_path: Path) -> None:
    for folder in (state.git_dir / "objects").glob("[0-9a-f][0-9a-f]"):
        (folder / "tmp_obj_1").write_bytes(b"left by a killed git")
    bundle, mirror = state.export_bundle(tmp_path / "out.bundle"), tmp_path / "mirror"

    _run("bundle", "verify", "-q", bundle)
    _run("clone", "-q", "--mirror", bundle, mirror)
    _run("--git-dir", mirror, "fsck", "--strict")
    for command in (("for-each-ref",), ("log", "--all", "--format=%H %B")):
        assert _run("--git-dir", mirror, *command) == git(state, *command).decode()
    _run("clone", "-q", bundle, tmp_path / "work")
    assert (tmp_path / "work/pipeline.json").read_bytes() == state.path.read_bytes()


@needs_git
@forks
def test_a_bundle_made_beside_writers_and_checkpoints_is_whole(path: Path, tmp_path: Path) -> None:
    fresh(path).write({"n": 0})

    def work(tell: Callable[[object], None]) -> None:
        state = fresh(path)
        for number in range(1, 200):
            state.write({"n": number})
            if number % 5 == 0:
                state.checkpoint()
            if number % 40 == 0:
                git(state, "repack", "-adq")
        tell("done")

    child = fork(work)
    bundles = 0
    while not child.told():
        bundle = fresh(path).export_bundle(tmp_path / "out.bundle")
        mirror = tmp_path / f"mirror-{bundles}"
        _run("clone", "-q", "--mirror", bundle, mirror)
        _run("--git-dir", mirror, "fsck", "--strict")
        bundles += 1
        child.drain()
    assert child.finish() == ["done"]
    assert bundles > 1


@needs_git
@forks
def test_a_bundle_has_what_is_in_the_journal_and_not_in_place_yet(
    state: PipelineState, tmp_path: Path
) -> None:
    bundle, mirror = tmp_path / "out.bundle", tmp_path / "mirror"
    made: list[object] = []

    def export(tell: Callable[[object], None]) -> None:
        tell(os.fspath(fresh(state.path).export_bundle(bundle)))

    def beside(call: Call) -> None:
        if places_object(call) and not made:
            made.append(call)
            made.extend(fork(export).finish())

    with file_calls(beside):
        state.write({"n": 5})

    assert made[1:] == [os.fspath(bundle)]
    _run("clone", "-q", "--mirror", bundle, mirror)
    _run("--git-dir", mirror, "fsck", "--strict")
    assert _run("--git-dir", mirror, "show", "main:pipeline.json") == '{\n  "n": 5\n}\n'


@needs_git
@pytest.mark.parametrize("pruned", [False, True])
def test_a_bundle_of_one_version_is_a_repository_of_that_alone(
    pruned: bool, path: Path, tmp_path: Path
) -> None:
    state = fresh(path, max_backups=1 if pruned else None)
    for number in range(1, 5):
        state.write({"n": number}, operation="count", message=f"the number {number}\n\nat last")
    if pruned:
        state.prune()
        with pytest.raises(StateReadError, match=r"export_bundle\(target, version\)") as caught:
            state.export_bundle(tmp_path / "all.bundle")
        assert caught.value.code == "history-pruned"
    version = next(version for version in state.log() if version.serial == 3)

    bundle, clone = state.export_bundle(tmp_path / "out.bundle", 3), tmp_path / "clone"

    _run("bundle", "verify", "-q", bundle)
    _run("clone", "-q", bundle, clone)
    assert (clone / "pipeline.json").read_bytes() == b'{\n  "n": 3\n}\n'
    inside = ("--git-dir", clone / ".git")
    assert _run(*inside, "fsck", "--strict") == ""
    assert _run(*inside, "rev-list", "--count", "--all").strip() == "1"
    assert _run(*inside, "symbolic-ref", "HEAD").strip() == "refs/heads/main"
    what = ("log", "-1", "--format=%an %ae %ad %cn %ce %cd %s")
    assert _run(*inside, *what) == git(state, *what, version.id).decode()
    lines = git(state, "log", "-1", "--format=%B", version.id).decode().strip().split("\n")
    told = _run(*inside, "log", "-1", "--format=%B").strip().split("\n")
    assert told == [*lines, f"Version: {version.id}"]
    assert state.verify().ok


@needs_git
def test_a_bundle_of_a_version_is_the_same_commit_each_time_and_replaces_a_file(
    state: PipelineState, tmp_path: Path
) -> None:
    target = tmp_path / "out.bundle"
    target.write_text("older")

    first = state.export_bundle(target, "keep").read_bytes()
    state.checkpoint()

    assert fresh(state.path).export_bundle(target, 3).read_bytes() == first
    with pytest.raises(VersionNotFoundError):
        state.export_bundle(target, 9)
    assert target.read_bytes() == first
    assert sorted(os.listdir(tmp_path)) == [".pipeline", "out.bundle", *_own()]


def test_a_damaged_history_makes_no_bundle(state: PipelineState, tmp_path: Path) -> None:
    state.close()
    pack = next((state.git_dir / "objects/pack").glob("*.pack"))
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 0xFF
    pack.chmod(0o600)
    pack.write_bytes(content)

    with pytest.raises(StateReadError, match="damaged"):
        fresh(state.path).export_bundle(tmp_path / "out.bundle")

    assert sorted(os.listdir(tmp_path)) == [".pipeline", *_own()]


def test_without_history_there_is_nothing_to_export(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StateReadError) as caught:
        fresh(path).export_bundle(tmp_path / "out.bundle")
    assert caught.value.code == "no-history"
    with pytest.raises(StateReadError) as caught:
        fresh(path).export(tmp_path / "folder")
    assert caught.value.code == "no-history"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "target",
    [
        "pipeline.json",
        "pipeline.json.lock",
        ".pipeline/x",
        ".pipeline",
        "link/x",
        ".pipeline/o.d/x",
    ],
)
def test_nothing_is_exported_into_the_state_itself(target: str, state: PipelineState) -> None:
    folder = state.path.parent
    (folder / "link").symlink_to(folder / ".pipeline" / "repo")
    before = state.path.read_bytes()
    for export in (
        lambda p: state.export(p, 1),
        state.export,
        state.export_bundle,
        lambda p: state.export_bundle(p, 1),
    ):
        with pytest.raises(ValueError, match="part of the state"):
            export(folder / target)
    assert state.path.read_bytes() == before
    assert state.verify().ok


@pytest.mark.parametrize("name", ["open", "replace", "fsync"])
def test_a_refusal_leaves_an_older_file(name: str, state: PipelineState, tmp_path: Path) -> None:
    target = tmp_path / "older"
    target.write_text("older")
    state.read(at=1)

    def refuse(call: Call) -> None:
        if call.name == name and "older" in call.file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), call.target)

    with file_calls(refuse):
        with pytest.raises(StateWriteError, match="No space left"):
            state.export(target, 1)
        with pytest.raises(StateWriteError, match="No space left"):
            state.export_bundle(target)
        with pytest.raises(StateWriteError, match="No space left"):
            state.export_bundle(target, 1)
    assert target.read_text() == "older"
    assert sorted(os.listdir(tmp_path)) == [".pipeline", "older", *_own()]


@needs_git
def test_what_a_power_cut_left_of_a_loose_object_does_not_keep_the_whole_one_out(
    state: PipelineState, tmp_path: Path
) -> None:
    state.close()
    blob = git(state, "rev-parse", "HEAD:pipeline.json").decode().strip()
    loose = state.git_dir / "objects" / blob[:2] / blob[2:]
    loose.parent.mkdir(exist_ok=True)
    for content in (b"", zlib.compress(b"garbage"), zlib.compress(b"blob 1\0x")):
        loose.write_bytes(content)
        bundle = fresh(state.path).export_bundle(tmp_path / "out.bundle")
        _run("clone", "-q", "--mirror", bundle, tmp_path / "mirror")
        _run("--git-dir", tmp_path / "mirror", "fsck", "--strict")
        shutil.rmtree(tmp_path / "mirror")


@pytest.mark.parametrize("content", [b"", zlib.compress(b"garbage"), zlib.compress(b"blob 1\0x")])
def test_an_object_that_is_damaged_makes_no_bundle(
    content: bytes, state: PipelineState, tmp_path: Path
) -> None:
    state.close()
    loose = state.git_dir / "objects" / "12" / ("34" * 19)
    loose.parent.mkdir(exist_ok=True)
    loose.write_bytes(content)

    with pytest.raises(StateReadError, match="cannot be read"):
        state.export_bundle(tmp_path / "out.bundle")
    assert not (tmp_path / "out.bundle").exists()


@needs_git
def test_a_pack_with_an_index_of_the_first_version_is_in_the_bundle(
    state: PipelineState, tmp_path: Path
) -> None:
    state.close()
    git(state, "-c", "pack.indexVersion=1", "repack", "-adfq")

    bundle = fresh(state.path).export_bundle(tmp_path / "out.bundle")

    _run("clone", "-q", "--mirror", bundle, tmp_path / "mirror")
    assert _run("--git-dir", tmp_path / "mirror", "fsck", "--strict") == ""
