"""The repository by itself: objects that are not what they should be, and packs that are written together."""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import os
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dulwich.object_store import DiskObjectStore
from oracle import (
    Call,
    Tell,
    counted,
    file_calls,
    fork,
    fresh,
    git,
    judge,
    judge_disk,
    leave,
    loose_objects,
    needs_git,
    places_object,
)

from gitstate import PipelineState, StateReadError, StateWriteError
from gitstate.journal import Journal
from gitstate.record import GitObject, Record, RefChange
from gitstate.repository import (
    EMPTY_TREE,
    Commit,
    Repository,
    blob_id,
    make_blob,
    make_commit,
    make_tree,
)
from gitstate.repository.index import Index, encode_index
from gitstate.repository.objects import unpack_loose
from gitstate.repository.packing import MAX_DEPTH
from gitstate.repository.packs import MAX_PACKS
from gitstate.store import BRIEF
from gitstate.trailers import Note


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """An empty one, beside which there is no journal."""
    Repository.create(tmp_path / "repo")
    with contextlib.closing(Repository(tmp_path / "repo", list)) as made:
        yield made


NO_OTHERS, ALL = 0, sys.maxsize
"""What has a checkpoint leave all packs as they are, and write all of them anew that are small."""


def _object(kind: bytes, content: bytes) -> GitObject:
    """An object of any content."""
    whole = b"%s %d\0" % (kind, len(content)) + content
    return GitObject(hashlib.sha1(whole).hexdigest(), zlib.compress(whole))


def _write(
    repository: Repository, objects: Sequence[GitObject], scratch: Path, fold: Sequence[Path]
) -> None:
    ids = [made.id for made in objects]
    repository._packs.write(ids, map(repository._unpack, objects), scratch, fold)
    repository._packs.release()


def _packs(git_dir: Path) -> list[str]:
    return sorted(path.name for path in (git_dir / "objects" / "pack").iterdir())


def _many_packs(path: Path) -> PipelineState:
    """A state with a pack for each version: the next checkpoint writes them together."""
    state = fresh(path, max_backups=None)
    for number in range(1, MAX_PACKS + 1):
        state.write({"n": number})
        state._parts.store.checkpoint(None, NO_OTHERS)
    state.write({"n": MAX_PACKS + 1})
    return state


def _all_numbers() -> list[int]:
    return list(range(1, MAX_PACKS + 2))


# -- objects -------------------------------------------------------------------------------------------------------


def test_walking_a_history_however_long_does_not_keep_all_of_it_in_memory(
    repository: Repository,
) -> None:
    moment = datetime(2026, 3, 1, tzinfo=UTC)

    def commits() -> int:
        return sum(isinstance(each, Commit) for each in gc.get_objects())

    before = commits()
    for serial in range(1, 4500):
        made = make_commit(EMPTY_TREE, (), "a <a@b>", Note("test", serial, moment, 1, "host"))
        assert repository.commit(made.id, made).note.serial == serial

    assert commits() - before <= 4096
    assert repository.commit(made.id).note.serial == serial


def test_a_store_that_was_given_to_a_file_of_another_name_says_which_name_it_lacks(
    tmp_path: Path,
) -> None:
    state = fresh(tmp_path / "a.json")
    state.write({"n": 1})
    state.close()
    stores = tmp_path / ".pipeline"
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    (stores / "a.json.d").rename(stores / "b.json.d")
    other = fresh(tmp_path / "b.json")

    for attempt in (lambda: next(other.log()).read(), lambda: other.write({"n": 2})):
        with pytest.raises(StateReadError) as caught:
            attempt()
        assert caught.value.code == "object-damaged"
        assert "'b.json'" in str(caught.value)

    assert other.read() == {"n": 1}
    leave(other)
    (tmp_path / "b.json").rename(tmp_path / "a.json")
    (stores / "b.json.d").rename(stores / "a.json.d")
    assert judge(tmp_path / "a.json", [], None) == [{"n": 1}]


WHO = b"author a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\n"
FOREIGN = {
    b"": "object-damaged",
    b"no header": "object-damaged",
    b"tree " + b"1" * 40 + b"\n\nby nobody\n": "not-a-commit",
    b"tree " + b"1" * 40 + b"\n" + WHO + b"fix it\n": "not-a-commit",
    b"tree " + b"1" * 40 + b"\n" + WHO + b"fix it\n\nSerial: first\n": "not-a-commit",
}


@pytest.mark.parametrize(("content", "code"), FOREIGN.items())
def test_a_commit_of_somebody_else_is_an_error_with_a_name(
    content: bytes, code: str, repository: Repository
) -> None:
    made = _object(b"commit", content)
    repository.put([made])

    with pytest.raises(StateReadError) as caught:
        repository.commit(made.id)

    assert caught.value.code == code


@pytest.mark.parametrize("threads", ["that begin late", "none"])
def test_a_large_object_has_the_id_of_its_content(
    threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def late(self: threading.Thread) -> None:
        time.sleep(0.5)
        run(self)

    run = threading.Thread.run
    if threads == "none":
        monkeypatch.setattr(threading.Thread, "start", refuse)
    else:
        monkeypatch.setattr(threading.Thread, "run", late)
    content = b'{\n  "n": 1\n}\n' * 400_000

    made = make_blob(content)

    assert made.id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert unpack_loose(made) == (made.id, b"blob", content)


def test_a_blob_in_the_place_of_a_commit_is_an_error_with_a_name(repository: Repository) -> None:
    made = make_blob(b"content")
    repository.put([made])

    with pytest.raises(StateReadError) as caught:
        repository.commit(made.id)

    assert caught.value.code == "not-a-commit"
    assert "it is a blob" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"100644 other\0" + b"1" * 20, b"100644 cut\0" + b"1"])
def test_a_tree_without_the_state_is_an_error_with_a_name(
    content: bytes, repository: Repository
) -> None:
    made = _object(b"tree", content)
    repository.put([made])

    with pytest.raises(StateReadError) as caught:
        repository.file_id(made.id, b"pipeline.json")

    assert caught.value.code == "object-damaged"


def test_an_object_that_was_damaged_before_it_came_into_the_journal_is_an_error_with_a_name(
    path: Path,
) -> None:
    state = fresh(path)
    state.write({"n": 1})
    leave(state)
    bad = GitObject("12" * 20, b"not what zlib makes")
    journal = Journal.open(path.parent / ".pipeline")
    journal.scan()
    refs = (RefChange("refs/backups/bad", (None,), bad.id),)
    journal.append(Record(journal.next_sequence, (bad,), refs))
    journal.close()
    state = fresh(path)

    with pytest.raises(StateReadError) as caught:
        state.read(at="bad")

    assert caught.value.code == "object-damaged"
    assert counted(version.read() for version in state.log()) == [1]
    assert not state.verify().ok


@pytest.mark.parametrize("left", [b"", b"cut short", zlib.compress(b"blob 1\0x")])
def test_a_loose_object_that_is_not_what_its_name_says_is_reported_and_made_good(
    left: bytes, path: Path
) -> None:
    state = fresh(path)
    state.write({"n": 1})
    leave(state)
    damaged = loose_objects(path)[0]
    damaged.chmod(0o644)
    damaged.write_bytes(left)

    problems = fresh(path).verify().problems

    assert any(str(damaged) in line for line in problems), problems
    assert judge(path, [], None) == [{"n": 1}]


@needs_git
def test_an_object_that_git_packs_while_a_recovery_looks_at_it_is_no_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = fresh(path)
    state.write({"n": 1})
    leave(state)
    real = os.open

    def packed(name: Any, *arguments: Any, **options: Any) -> int:
        if Path(name) in loose:
            loose.clear()
            git(state.git_dir, "repack", "-ad", "--quiet")
        return real(name, *arguments, **options)

    loose = set(loose_objects(path))
    monkeypatch.setattr(os, "open", packed)
    assert fresh(path).write({"n": 2})
    monkeypatch.undo()

    assert not loose
    assert judge(path, [], None) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("step", ["opened", "named"])
def test_a_prune_that_never_ends_delays_the_history_and_nothing_else(step: str, path: Path) -> None:
    state = fresh(path)
    state.write({"n": 1})
    branch = state.git_dir / "refs/heads/main"
    before = branch.read_bytes()

    def removed(call: Call) -> None:
        if places_object(call) if step == "named" else call.file.startswith("tmp_obj_"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), call.target)

    with file_calls(removed):
        assert state.write({"n": 2})
        assert branch.read_bytes() == before  # it names nothing that is not there
        assert counted(version.read() for version in state.log()) == [2, 1]

    assert counted(judge(path, [], None)) == [1, 2]


def test_closing_waits_for_no_reader_and_takes_nothing_from_it(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a program whose threads go on."""
    made = make_blob(b"content")
    repository.pack([made], tmp_path, ALL)
    reading, go_on = threading.Event(), threading.Event()
    closed: list[DiskObjectStore] = []
    found: list[bytes] = []
    read, close = DiskObjectStore.get_raw, DiskObjectStore.close

    def slow(store: DiskObjectStore, name: Any) -> Any:
        reading.set()
        assert go_on.wait(60)
        return read(store, name)

    monkeypatch.setattr(DiskObjectStore, "get_raw", slow)
    monkeypatch.setattr(
        DiskObjectStore, "close", lambda store: (closed.append(store), close(store))
    )
    thread = threading.Thread(target=lambda: found.append(repository.read(made.id)))
    thread.start()
    assert reading.wait(60)

    repository.close()
    assert closed == []
    go_on.set()
    thread.join()

    assert found == [b"content"]
    repository.close()
    assert len(closed) == 1


# -- packs ---------------------------------------------------------------------------------------------------------


def test_packs_that_are_too_large_to_write_together_stay(
    repository: Repository, tmp_path: Path
) -> None:
    objects = [make_blob(os.urandom(1500)) for _ in range(MAX_PACKS)]
    for made in objects:
        repository.pack([made], tmp_path, NO_OTHERS)  # each weighs 2: an object and a KiB
    before = _packs(repository.git_dir)
    assert len(before) == 2 * MAX_PACKS

    repository.pack([], tmp_path, 3)
    assert _packs(repository.git_dir) == before

    repository.pack([], tmp_path, 5)
    assert len(_packs(repository.git_dir)) == 2 * (MAX_PACKS - 1)
    repository.pack([], tmp_path, ALL)
    assert len(_packs(repository.git_dir)) == 2
    assert all(blob_id(repository.read(made.id)) == made.id for made in objects)


def test_a_pack_is_written_anew_only_with_what_weighs_half_as_much(
    repository: Repository, tmp_path: Path
) -> None:
    def pack(count: int) -> int:
        repository.pack([make_blob(os.urandom(8)) for _ in range(count)], tmp_path, ALL)
        return len(_packs(repository.git_dir)) // 2

    assert [pack(5000), pack(1500), pack(1)] == [1, 2, 3]
    assert pack(10) == 3  # small, as the one
    assert pack(750) == 2  # with those eleven, and so with the 1,500
    assert pack(2000) == 1


def test_packs_of_one_large_object_each_stay_few_in_checkpoints_that_must_be_brief(
    repository: Repository, tmp_path: Path
) -> None:
    """Each is heavier than what a brief checkpoint writes anew beside a small one."""
    most = 0
    for _ in range(40):
        repository.pack([make_blob(os.urandom(1_200_000))], tmp_path, BRIEF)
        most = max(most, len(_packs(repository.git_dir)) // 2)

    assert most <= MAX_PACKS


def test_a_folder_that_git_removes_while_it_is_made_is_made_again(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there for `mkdir`, and is gone for who looks whether it is a folder (PITFALLS G3)."""
    make, refused = os.makedirs, []

    def refuse_once(folder: str, *arguments: object, **options: object) -> None:
        if not refused:
            refused.append(folder)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), folder)
        make(folder, *arguments, **options)

    monkeypatch.setattr(os, "makedirs", refuse_once)
    blob = make_blob(b"{}")

    repository.put([blob])

    assert refused == [os.fspath(repository.git_dir / "objects" / blob.id[:2])]
    assert repository.read(blob.id) == b"{}"


def test_packs_that_cannot_be_opened_for_want_of_descriptors_are_not_called_damaged(
    path: Path,
) -> None:
    state = _many_packs(path)
    leave(state)
    before = _packs(state.git_dir)
    state = fresh(path)

    def refuse(call: Call) -> None:
        if call.name == "open" and call.file.startswith("pack-"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), call.target)

    with file_calls(refuse, reading=True):
        with pytest.raises(StateWriteError, match=r"Too many open files.*ulimit"):
            state.checkpoint()
        with pytest.raises(StateReadError, match=r"Too many open files.*ulimit") as caught:
            state.read(at=1)
        problems = state.verify().problems

    assert caught.value.code == "store-unreadable"
    assert problems
    assert not [problem for problem in problems if "damaged" in problem]
    assert _packs(state.git_dir) == before
    assert state.verify().ok


@needs_git
def test_what_nothing_reaches_stays_in_the_pack_that_git_keeps_for_it(path: Path) -> None:
    state = _many_packs(path)
    git(state, "hash-object", "-w", "--stdin", input=b"nothing names this")
    git(state, "repack", "--cruft", "-dq")
    (cruft,) = (state.git_dir / "objects/pack").glob("*.mtimes")

    for number in range(3):
        state.write({"n": 100 + number})
        state.checkpoint()

    assert cruft.with_suffix(".pack").exists()
    assert len(_packs(state.git_dir)) == 3 + 2
    judge_disk(state)


@needs_git
def test_git_is_content_with_what_a_deletion_of_packs_that_was_killed_leaves(path: Path) -> None:
    state = _many_packs(path)
    leave(state)

    def work(tell: Tell) -> None:
        def die(call: Call) -> None:
            if call.name == "unlink" and call.target.endswith(".idx"):
                os._exit(0)

        with file_calls(die):
            fresh(path).checkpoint()
        tell("deleted nothing")

    assert fork(work).finish() == []
    assert b"\ngarbage: 1\n" in git(state, "count-objects", "-v")
    git(state, "repack", "--cruft", "-dq")

    state = fresh(path)
    assert counted(version.read() for version in state.log())[::-1] == _all_numbers()
    judge_disk(state)


@needs_git
def test_chains_of_deltas_have_an_end_however_many_packs_they_are_made_in(path: Path) -> None:
    state = fresh(path, max_backups=None)
    for number in range(260):
        state.write({"n": number, "text": "what stays the same " * 20})
        if number % 7 == 0:
            state.checkpoint()
    state.close()

    packs = list((state.git_dir / "objects/pack").glob("*.pack"))
    told = git(state, "verify-pack", "-v", *map(os.fspath, packs)).decode().splitlines()
    lengths = [int(line.split()[3][:-1]) for line in told if line.startswith("chain length")]
    assert max(lengths) == MAX_DEPTH
    assert sum(pack.stat().st_size for pack in packs) < 260 * 300
    judge_disk(state)
    assert counted(judge(path, [], None)) == list(range(260))


@needs_git
@pytest.mark.parametrize(
    "options",
    [
        ("-c", "pack.depth=300"),
        ("-c", "repack.useDeltaBaseOffset=false"),
        ("-c", "pack.indexVersion=1"),
    ],
    ids=["longer chains than ours", "deltas against a name", "an old index"],
)
def test_checkpoints_go_on_from_what_git_has_packed(options: tuple[str, str], path: Path) -> None:
    state = fresh(path, max_backups=None)
    for number in range(130):
        state.write({"n": number, "text": "what stays the same " * 20})
        if number % 40 == 39:
            state.checkpoint()
            git(state, *options, "repack", "-adfq")
    state.close()

    judge_disk(state)
    assert counted(judge(path, [], None)) == list(range(130))


def test_the_same_objects_in_several_packs_are_one_when_they_are_written_together(
    repository: Repository, tmp_path: Path
) -> None:
    objects = [make_blob(b"%d" % number * 1000) for number in range(6)]
    for start in range(4):
        _write(repository, objects[start:], tmp_path, [])
    assert len(_packs(repository.git_dir)) == 8

    repository.pack([], tmp_path, ALL)

    assert len(_packs(repository.git_dir)) == 2
    (index,) = (repository.git_dir / "objects/pack").glob("*.idx")
    assert index.stat().st_size == 1072 + 28 * len(objects)
    assert not list(repository.problems())
    assert all(blob_id(repository.read(made.id)) == made.id for made in objects)


@needs_git
def test_a_repack_of_gits_while_packs_are_written_together_is_no_error(path: Path) -> None:
    state = _many_packs(path)
    repacked = []

    def repack(call: Call) -> None:
        if call.name == "open" and call.file == "building.pack":
            repacked.append(call)
            git(state, "repack", "-ad", "--quiet")

    with file_calls(repack):
        state.checkpoint()

    assert len(repacked) == 1
    assert counted(version.read() for version in state.log())[::-1] == _all_numbers()
    judge_disk(state)
    assert counted(judge(path, [], None)) == _all_numbers()


@pytest.mark.parametrize(
    ("suffix", "place"),
    [(".pack", -30), (".idx", -30), (".idx", 8 + 1024 + 19)],
    ids=["an object", "the checksum of the pack", "the name of an object"],
)
def test_a_damaged_pack_is_not_written_together_with_others_and_stays_as_it_is(
    suffix: str, place: int, path: Path
) -> None:
    state = _many_packs(path)
    pack = next((state.git_dir / "objects/pack").glob("*.pack"))
    damaged = pack.with_suffix(suffix)
    content = bytearray(damaged.read_bytes())
    content[place] ^= 0x01
    damaged.chmod(0o644)
    damaged.write_bytes(content)
    assert "a pack is damaged" in " ".join(state.verify().problems)

    state.checkpoint()

    assert len(_packs(state.git_dir)) == 4
    assert damaged.read_bytes() == content
    assert "a pack is damaged" in " ".join(state.verify().problems)
    assert state.read() == {"n": MAX_PACKS + 1}
    state.write({"n": 0})
    state.close()


@pytest.mark.parametrize("name", ["building.pack", "building.idx"])
def test_a_disk_that_refuses_to_hold_packs_together_leaves_each_as_it_was(
    name: str, path: Path
) -> None:
    state = _many_packs(path)

    def full(call: Call) -> None:
        if call.name == "open" and call.file == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), call.target)

    with file_calls(full), pytest.raises(StateWriteError):
        state.checkpoint()

    assert len(_packs(state.git_dir)) == 2 * MAX_PACKS
    judge_disk(state)
    state.checkpoint()
    judge_disk(state)
    assert counted(judge(path, [], None)) == _all_numbers()


def test_a_disk_that_is_full_at_half_a_pack_leaves_each_as_it_was(
    repository: Repository, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource")
    objects = [make_blob(os.urandom(20_000)) for _ in range(MAX_PACKS + 1)]
    for made in objects:
        repository.pack([made], tmp_path, NO_OTHERS)
    before = _packs(repository.git_dir)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StateWriteError):
            repository.pack([], tmp_path, ALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert _packs(repository.git_dir) == before
    assert not list(tmp_path.glob("building.*"))
    repository.pack([], tmp_path, ALL)
    assert len(_packs(repository.git_dir)) == 2
    assert all(blob_id(repository.read(made.id)) == made.id for made in objects)


def test_an_index_that_names_another_object_than_the_pack_holds_is_reported(path: Path) -> None:
    state = fresh(path)
    state.write({"n": 1})
    state.close()
    (index,) = (path.parent / ".pipeline/repo/objects/pack").glob("*.idx")
    content = bytearray(index.read_bytes())
    content[8 + 1024 + 19] ^= 1  # the last byte of the first name: gitformat-pack(5)
    content[-20:] = hashlib.sha1(content[:-20]).digest()
    index.chmod(0o644)
    index.write_bytes(content)

    (problem, *_) = [line for line in fresh(path).verify().problems if "pack" in line]

    assert "does not match" in problem
    assert fresh(path).read() == {"n": 1}


@pytest.mark.parametrize("at", [4, 8 + 1020], ids=["version", "count"])
def test_an_index_that_makes_no_sense_is_an_error_with_a_name_whatever_is_asked(
    at: int, path: Path
) -> None:
    state = fresh(path)
    version = state.write({"n": 1})
    state.write({"n": 2})
    state.close()
    assert version is not None
    (index,) = (path.parent / ".pipeline/repo/objects/pack").glob("*.idx")
    content = bytearray(index.read_bytes())
    content[at] ^= 0xFF  # gitformat-pack(5): behind the magic, and in the last entry of the fan-out
    content[-20:] = hashlib.sha1(content[:-20]).digest()
    index.chmod(0o644)
    index.write_bytes(content)
    handle = fresh(path)

    for ask in (
        lambda: handle.read(at=version.id[:8]),
        lambda: handle.read(at=1),
        lambda: list(handle.log()),
        lambda: handle.write({"n": 3}),
    ):
        with pytest.raises(StateReadError):
            ask()
    assert not handle.verify().ok
    assert handle.read() == {"n": 2}


def _entry(kind: int, size: int, behind: bytes) -> bytes:
    """An object in a pack: gitformat-pack(5), for sizes below 16."""
    return bytes([kind << 4 | size]) + behind


def _whole(content: bytes, size: int) -> bytes:
    return _entry(3, size, zlib.compress(content))


REF_DELTA = 7
FIRST, SECOND = bytes([1] * 20), bytes([2] * 20)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([_whole(b"abc", 3)], "the hash of"),
        ([_whole(b"abc", 4)], "another size than its header says"),
        ([_entry(3, 15, zlib.compress(bytes(100), 0)[:50])], "ends in the middle"),
        ([_entry(REF_DELTA, 3, b"x" * 20 + zlib.compress(b"abc"))], "an object of another pack"),
        (
            [
                _entry(REF_DELTA, 3, SECOND + zlib.compress(b"abc")),
                _entry(REF_DELTA, 3, FIRST + zlib.compress(b"abc")),
            ],
            "no end",
        ),
    ],
    ids=["hash", "size", "cut", "foreign base", "circle"],
)
def test_objects_of_a_pack_that_contradict_each_other_are_damage_with_its_reason(
    entries: list[bytes], why: str, repository: Repository
) -> None:
    content = struct.pack(">4sLL", b"PACK", 2, len(entries)) + b"".join(entries)
    checksum = hashlib.sha1(content).digest()
    names, crcs = [FIRST, SECOND][: len(entries)], [zlib.crc32(each) for each in entries]
    offsets = [12, 12 + len(entries[0])][: len(entries)]
    pack = repository.git_dir / "objects/pack/pack-made.pack"
    pack.write_bytes(content + checksum)
    pack.with_suffix(".idx").write_bytes(encode_index(names, offsets, crcs, checksum))

    (problem,) = repository.problems()

    assert why in problem
    assert os.fspath(pack) in problem


def test_an_index_that_knows_fewer_objects_than_its_pack_has_is_damage(
    repository: Repository, tmp_path: Path
) -> None:
    _write(repository, [make_blob(b"%d" % number) for number in range(3)], tmp_path, [])
    (path,) = (repository.git_dir / "objects/pack").glob("*.idx")
    index = Index(path.read_bytes())
    path.chmod(0o644)
    path.write_bytes(
        encode_index(index.names[1:], index.offsets[1:], index.crcs[1:], index.checksum)
    )

    (problem,) = repository.problems()

    assert "more or fewer objects" in problem


def test_a_tree_of_which_nothing_can_be_read_is_an_error_with_a_name(
    repository: Repository, tmp_path: Path
) -> None:
    made = _object(b"tree", b"no tree")
    repository.pack([made], tmp_path, NO_OTHERS)

    for ask in (lambda: repository.files(made.id), lambda: repository.reachable([made.id], ())):
        with pytest.raises(StateReadError) as caught:
            ask()
        assert caught.value.code == "object-damaged"


@pytest.mark.parametrize("content", [b"", b"no header", b"tree 123\n" + WHO + b"fix it\n"])
def test_a_packed_commit_without_a_proper_header_is_an_error_with_a_name(
    content: bytes, repository: Repository, tmp_path: Path
) -> None:
    made = _object(b"commit", content)
    repository.pack([made], tmp_path, NO_OTHERS)

    with pytest.raises(StateReadError) as caught:
        repository.commit(made.id)

    assert caught.value.code == "not-a-commit"


def test_of_two_packs_with_an_object_one_may_be_damaged(
    repository: Repository, tmp_path: Path
) -> None:
    contents = [b"%d" % number * 1000 for number in range(3)]
    objects = [make_blob(content) for content in contents]
    for start in range(2):
        _write(repository, objects[start:], tmp_path, [])
    packs = sorted((repository.git_dir / "objects/pack").glob("*.pack"))
    for damaged in packs:
        whole = damaged.read_bytes()
        content = bytearray(whole)
        content[20:-20] = bytes(len(content) - 40)
        damaged.write_bytes(content)
        repository.forget()

        assert [repository.read(made.id) for made in objects[1:]] == contents[1:]

        damaged.write_bytes(whole)


@needs_git
def test_a_repack_of_gits_while_everything_is_verified_is_no_damage(path: Path) -> None:
    state = _many_packs(path)
    repacked = []

    def repack(call: Call) -> None:
        if call.file.endswith((".pack", ".idx")) and not repacked:
            repacked.append(call)
            git(state, "repack", "-adq")

    with file_calls(repack, reading=True):
        report = state.verify()

    assert repacked
    assert report.ok


@needs_git
def test_a_chain_of_deltas_that_is_as_long_as_may_be_is_not_gone_on_with(path: Path) -> None:
    state = fresh(path, max_backups=None)
    for number in range(MAX_DEPTH + 1):
        state.write({"n": number, "text": "what stays the same " * 20})
    state.checkpoint()
    leave(state)  # whoever comes next must look how long the chain is

    state = fresh(path, max_backups=None)
    state.write({"n": -1, "text": "what stays the same " * 20})
    state.checkpoint()

    (pack,) = (state.git_dir / "objects/pack").glob("*.pack")
    told = git(state, "verify-pack", "-v", os.fspath(pack)).decode().splitlines()
    lengths = [int(line.split()[3][:-1]) for line in told if line.startswith("chain length")]
    assert max(lengths) == MAX_DEPTH
    leave(state)


def test_a_pack_that_becomes_shorter_while_it_is_copied_is_an_error_of_the_disk(
    repository: Repository, tmp_path: Path
) -> None:
    objects = [make_blob(os.urandom(2000)) for _ in range(2)]
    _write(repository, objects[:1], tmp_path, [])
    (pack,) = (repository.git_dir / "objects/pack").glob("*.pack")
    whole = pack.read_bytes()

    def cut(call: Call) -> None:
        if call.name == "open" and call.file == "building.pack":
            os.truncate(pack, 1000)

    with file_calls(cut), pytest.raises(StateWriteError, match="cannot write a pack"):
        _write(repository, objects[1:], tmp_path, [pack])

    assert [path.name for path in pack.parent.glob("*.pack")] == [pack.name]
    pack.write_bytes(whole)
    assert blob_id(repository.read(objects[0].id)) == objects[0].id


@needs_git
def test_git_reads_an_index_of_a_pack_that_is_larger_than_two_gigabytes_as_we_do() -> None:
    names = [os.urandom(20) for _ in range(600)]
    offsets = [12 + number * 2**23 for number in range(600)]
    crcs = [number * 7_000_000 for number in range(600)]

    content = encode_index(names, offsets, crcs, b"c" * 20)

    told = subprocess.run(["git", "show-index"], input=content, capture_output=True, check=True)
    lines = [line.split() for line in told.stdout.decode().splitlines()]
    expected = sorted(zip(names, offsets, crcs, strict=True))
    assert [
        (bytes.fromhex(name), int(at), int(crc[1:-1], 16)) for at, name, crc in lines
    ] == expected
    index = Index(content)
    assert index.names == [name for name, _, _ in expected]
    assert [index.find(name) for name in names] == offsets
    assert index.find(b"x" * 20) is None
    assert index.checksum == b"c" * 20


def test_what_an_index_says_twice_makes_its_pack_stay_as_it_is(
    repository: Repository, tmp_path: Path
) -> None:
    objects = [make_blob(b"%d" % number * 1000) for number in range(3)]
    _write(repository, objects[:2], tmp_path, [])
    (twice,) = (repository.git_dir / "objects/pack").glob("*.pack")
    for made in objects:
        _write(repository, [made], tmp_path, [])
    index = Index(twice.with_suffix(".idx").read_bytes())
    content = encode_index(index.names[:1] * 2, index.offsets, index.crcs, index.checksum)
    twice.with_suffix(".idx").chmod(0o644)
    twice.with_suffix(".idx").write_bytes(content)

    repository.pack([], tmp_path, ALL)

    assert twice.exists()
    assert len(_packs(repository.git_dir)) == 4
    assert all(blob_id(repository.read(made.id)) == made.id for made in objects)


def test_what_is_still_needed_of_a_pack_stays_readable_whatever_it_was_a_delta_against(
    repository: Repository, tmp_path: Path
) -> None:
    contents = [b"what stays the same\n%d" % number * 100 for number in range(12)]
    objects = [make_blob(content) for content in contents]
    _write(repository, objects, tmp_path, [])
    (before,) = (repository.git_dir / "objects/pack").glob("*.pack")
    kept = [1, 2, 5, 8, 9, 10]
    needed = [objects[number].id for number in kept]

    gone = repository.rewrite(needed, tmp_path)
    repository.collect(needed, gone)
    repository.release_packs()

    assert gone == [before]
    assert len(_packs(repository.git_dir)) == 2
    assert [repository.read(each) for each in needed] == [contents[number] for number in kept]
    assert not any(repository.readable(made.id) for made in objects if made.id not in needed)
    assert not list(repository.problems())
    more = make_blob(b"what stays the same\n12" * 100)
    repository.pack([more], tmp_path, ALL)
    assert len(_packs(repository.git_dir)) == 2
    assert repository.read(more.id) == b"what stays the same\n12" * 100


def test_what_a_tree_lacks_is_missed_by_whoever_must_have_all(
    repository: Repository, tmp_path: Path
) -> None:
    lacking = make_tree({b"pipeline.json": make_blob(b"1").id})
    repository.pack([lacking], tmp_path, NO_OTHERS)

    with pytest.raises(StateReadError, match=make_blob(b"1").id) as caught:
        repository.reachable([lacking.id], ())

    assert caught.value.code == "object-missing"


def test_what_a_log_names_is_a_root_wherever_it_is_and_not_if_nobody_has_it(tmp_path: Path) -> None:
    loose, waiting, lost = (make_blob(b"%d" % number) for number in range(3))
    Repository.create(tmp_path / "repo")
    with contextlib.closing(Repository(tmp_path / "repo", lambda: [waiting])) as repository:
        repository.put([loose])
        log = tmp_path / "repo/logs/HEAD"
        log.parent.mkdir()
        log.write_text(f"{'0' * 40} {loose.id}\n{loose.id} {waiting.id}\n{waiting.id} {lost.id}\n")

        assert repository.roots() == {loose.id, waiting.id}


def test_what_else_lies_beside_loose_objects_is_none(repository: Repository) -> None:
    made = make_blob(b"1")
    repository.put([made])
    (repository.git_dir / "objects" / made.id[:2] / "tmp_obj_1").write_bytes(
        b"left by a killed git"
    )

    assert repository.find(made.id[:2]) == [made.id]


def test_what_two_packs_have_is_once_in_the_one_that_takes_their_place(
    repository: Repository, tmp_path: Path
) -> None:
    shared, *others = (make_blob(b"%d" % number * 1000) for number in range(3))
    for other in others:
        _write(repository, [shared, other], tmp_path, [])

    repository.collect([shared.id], repository.rewrite([shared.id], tmp_path))

    (index,) = (repository.git_dir / "objects/pack").glob("*.idx")
    assert Index(index.read_bytes()).names == [bytes.fromhex(shared.id)]
    assert repository.read(shared.id) == b"0" * 1000


def test_a_pack_that_goes_while_all_are_looked_through_is_no_damage(
    repository: Repository, tmp_path: Path
) -> None:
    _write(repository, [make_blob(b"1")], tmp_path, [])

    def take(call: Call) -> None:
        if call.name == "open" and call.file.endswith(".idx"):
            for each in (repository.git_dir / "objects/pack").iterdir():
                each.unlink()

    with file_calls(take, reading=True):
        assert list(repository.problems()) == []
    assert not _packs(repository.git_dir)
