"""Where each version is: by number and by time, in few reads, and right whatever the file says that tells."""

import os
import random
import shutil
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from oracle import Call, file_calls, fork, forks, fresh, git, journal_of, leave, needs_git

from gitstate import StateReadError, VersionNotFoundError, chain, draft
from gitstate.repository import Commit, Repository

COUNT = 120


class _Clock(datetime):
    """A clock that goes on by a minute every third time it is looked at."""

    looks = 0

    @classmethod
    def now(cls, tz: object = None) -> "_Clock":
        cls.looks += 1
        return cls(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=cls.looks // 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a state of `COUNT` versions, {"n": 1} to {"n": COUNT}, of which three times are the same."""
    path = tmp_path_factory.mktemp("made") / "pipeline.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draft, "datetime", _Clock)
        state = fresh(path, max_backups=None)
        for number in range(1, COUNT + 1):
            state.write({"n": number})
            if number % 25 == 0:
                state.checkpoint()
        state.close()
    return path.parent


@pytest.fixture
def path(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state file of a copy of its own; a walk of twenty versions is already far."""
    shutil.copytree(made, tmp_path / "own")
    monkeypatch.setattr(chain, "_FAR", 20)
    return tmp_path / "own" / "pipeline.json"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the commits that are read, as they are read."""
    seen: list[str] = []
    read = Repository.commit

    def counting(self: Repository, commit_id: str, *arguments: object) -> Commit:
        seen.append(commit_id)
        return read(self, commit_id, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Repository, "commit", counting)
    return seen


def _rows(path: Path) -> Path:
    return path.parent / ".pipeline" / "serials"


def _judge(path: Path) -> None:
    """Every version by its number, by HEAD, and by the times around its own."""
    state = fresh(path)
    versions = list(state.log())
    newest = versions[0].serial
    assert [version.serial for version in versions] == list(range(newest, 0, -1))
    random.Random(1).shuffle(versions)
    for version in versions:
        document = version.read()
        assert state.read(at=version.serial) == document
        assert state.read(at=f"HEAD~{newest - version.serial}") == document
        for moment in (version.timestamp, version.timestamp + timedelta(seconds=1)):
            last = max(v.serial for v in versions if v.timestamp <= moment)
            assert state.read(at=moment)["n"] == state.read(at=last)["n"]
            assert next(state.log(1, until=moment)).serial == last
    oldest = min(version.timestamp for version in versions)
    for wrong in (0, -1, newest + 1, f"HEAD~{newest}", oldest - timedelta(seconds=1)):
        with pytest.raises(VersionNotFoundError):
            state.read(at=wrong)
    assert list(state.log(until=oldest - timedelta(seconds=1))) == []


def test_every_version_is_found(path: Path) -> None:
    _judge(path)


def test_an_old_version_is_found_in_few_reads(path: Path, reads: list[str]) -> None:
    state = fresh(path)
    moment = next(state.log(1, until=datetime(2026, 3, 1, 0, 10, tzinfo=UTC))).timestamp
    for at in (3, "HEAD~100", moment):
        leave(state)
        state = fresh(path)
        reads.clear()
        state.read(at=at)
        assert len(reads) < 20


def test_versions_since_the_last_checkpoint_are_found_too(path: Path, reads: list[str]) -> None:
    state = fresh(path)
    for number in range(COUNT + 1, COUNT + 16):
        state.write({"n": number})
    leave(state)

    reads.clear()
    assert fresh(path).read(at=5) == {"n": 5}
    assert len(reads) < 40
    _judge(path)


def test_who_holds_on_to_an_older_head_finds_versions_beside_rows_that_go_further(
    path: Path, reads: list[str]
) -> None:
    state, other = fresh(path), fresh(path, max_backups=None)
    asked = []

    def commit_meanwhile(call: Call) -> None:
        if call.file == "serials" and not asked:
            asked.append(call)
            for number in range(COUNT + 1, COUNT + 40):
                other.write({"n": number})
            other.checkpoint()
            reads.clear()

    before = _rows(path).stat().st_size
    with file_calls(commit_meanwhile, reading=True):
        assert state.read(at=3) == {"n": 3}

    assert len(reads) < 20
    assert _rows(path).stat().st_size == before + 32 * 39


@pytest.mark.parametrize("far", [20, 10_000])
@pytest.mark.parametrize("half", ["front", "behind", "all"])
def test_rows_that_are_gone_are_made_again(
    half: str, far: int, path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "_FAR", far)
    whole = _rows(path).read_bytes()
    middle = len(whole) // 64 * 32
    left = {"front": bytes(middle) + whole[middle:], "behind": whole[:middle], "all": b""}[half]
    _rows(path).write_bytes(left) if left else _rows(path).unlink()

    _judge(path)

    state = fresh(path)
    state.write({"n": COUNT + 1})
    state.close()
    _judge(path)
    assert _rows(path).read_bytes()[: len(whole)] == whole
    reads.clear()
    assert fresh(path).read(at=2) == {"n": 2}
    assert len(reads) < 30


@pytest.mark.parametrize("seed", range(8))
def test_damaged_rows_find_nothing_wrong(seed: int, path: Path) -> None:
    chance = random.Random(seed)
    content = bytearray(_rows(path).read_bytes())
    for _ in range(chance.choice([1, 5, 50])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    _rows(path).write_bytes(content[: chance.choice([None, -1, -7, -40])] + b"x" * (seed % 3))

    _judge(path)


@pytest.mark.parametrize("far", [20, 10_000])
@pytest.mark.parametrize("by", ["number", "time"])
@pytest.mark.parametrize("damaged", [[5], [5, 6, 70, 119], [COUNT], [5, COUNT]])
def test_a_damaged_row_is_put_right_by_who_had_to_walk(
    damaged: list[int],
    by: str,
    far: int,
    path: Path,
    reads: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chain, "_FAR", far)
    state = fresh(path)
    at: dict[str, int | datetime] = {"number": 5}
    at["time"] = next(version.timestamp for version in state.log() if version.serial == 5)
    wanted = state.read(at=at[by])
    whole = _rows(path).read_bytes()
    content = bytearray(whole)
    for serial in damaged:
        content[32 * serial + 3] ^= 1
    _rows(path).write_bytes(content)
    leave(state)

    reads.clear()
    assert fresh(path).read(at=at[by]) == wanted
    assert _rows(path).read_bytes() == whole or by == "time"
    reads.clear()
    assert fresh(path).read(at=at[by]) == wanted
    assert len(reads) < 20


def test_a_row_that_stands_for_another_version_is_put_right(path: Path, reads: list[str]) -> None:
    whole = _rows(path).read_bytes()
    other = fresh(path)
    wrong = next(version for version in other.log() if version.serial == 6)
    made_id, time = bytes.fromhex(wrong.id), (wrong.timestamp - chain._EPOCH) // chain._MICROSECOND
    checksum = zlib.crc32(chain._CHECKED.pack(110, made_id, time))
    row = chain._ROW.pack(made_id, time, checksum)
    _rows(path).write_bytes(whole[: 32 * 110] + row + whole[32 * 111 :])
    leave(other)

    assert fresh(path).read(at=110) == {"n": 110}

    assert _rows(path).read_bytes() == whole
    reads.clear()
    assert fresh(path).read(at=110) == {"n": 110}
    assert len(reads) < 8


def test_rows_of_another_state_find_nothing_wrong(path: Path, tmp_path: Path) -> None:
    other = fresh(tmp_path / "other" / "pipeline.json", max_backups=None)
    for number in range(COUNT + 5):
        other.write({"other": number})
    other.close()
    shutil.copy(_rows(other.path), _rows(path))

    _judge(path)


@needs_git
def test_rows_of_versions_that_were_taken_off_the_branch_find_nothing_wrong(path: Path) -> None:
    """As after damage: the journal moved away, the branch put to an older version, and others made."""
    state = fresh(path)
    shutil.copy(_rows(path), path.with_name("rows"))
    old = state.read(at=60)
    leave(state)
    git(state, "update-ref", "refs/heads/main", next(v.id for v in state.log() if v.serial == 60))
    journal_of(path).unlink()
    path.unlink()
    state = fresh(path)
    assert state.restore_backup("HEAD")
    for number in range(61, COUNT + 10):
        state.write({"n": -number})
    assert state.read(at=60) == old
    state.close()

    _judge(path)
    shutil.copy(path.with_name("rows"), _rows(path))
    _judge(path)
    state = fresh(path)
    state.write({"n": 0})
    state.close()
    assert fresh(path).read(at=70)["n"] < 0


def _no_file(path: Path) -> None:
    _rows(path).unlink()
    _rows(path).mkdir()


def _no_access(path: Path) -> None:
    _rows(path).chmod(0)


def _nothing(path: Path) -> None:
    _rows(path).write_bytes(b"")


@pytest.mark.parametrize("spoil", [_no_file, _no_access, _nothing])
def test_a_file_that_cannot_be_used_is_done_without(
    spoil: Callable[[Path], None], path: Path
) -> None:
    spoil(path)
    _judge(path)
    state = fresh(path)
    state.write({"n": COUNT + 1})
    state.close()
    _judge(path)


@forks
def test_who_reads_while_others_make_rows_is_told_nothing_wrong(path: Path) -> None:
    def work(tell: Callable[[object], None]) -> None:
        state = fresh(path)
        for number in range(COUNT + 1, COUNT + 60):
            state.write({"n": number})
            state.checkpoint()
        tell("done")

    def spoil(tell: Callable[[object], None]) -> None:
        for _ in range(200):
            os.truncate(_rows(path), 32 * random.Random(1).randrange(COUNT))
            fresh(path).read(at=1)
        tell("done")

    writer, spoiler = fork(work), fork(spoil)
    for _ in range(30):
        state = fresh(path)
        for number in (1, 2, 50, 99, COUNT):
            assert state.read(at=number) == {"n": number}
        leave(state)
    assert writer.finish() == spoiler.finish() == ["done"]
    _judge(path)


def test_a_damaged_version_does_not_cost_the_way_to_the_others(path: Path) -> None:
    state = fresh(path)
    damaged = next(version.id for version in state.log() if version.serial == 60)
    state.close()
    packs = path.parent / ".pipeline/repo/objects/pack"
    for pack in list(packs.glob("*.pack")):
        content = pack.read_bytes()
        for each in packs.glob(pack.stem + ".*"):
            each.unlink()
        git(state, "unpack-objects", "-q", input=content)
    (path.parent / f".pipeline/repo/objects/{damaged[:2]}/{damaged[2:]}").unlink()
    before = _rows(path).read_bytes()

    for _ in range(2):
        with pytest.raises(StateReadError) as caught:
            fresh(path).read(at=60)
        assert caught.value.code == "object-missing"
        assert fresh(path).read(at=10) == {"n": 10}
    assert _rows(path).read_bytes() == before

    _rows(path).unlink()
    with pytest.raises(StateReadError):
        fresh(path).read(at=10)
    assert fresh(path).read(at=100) == {"n": 100}


def test_looking_for_a_version_keeps_nobody_from_a_checkpoint(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _rows(path).unlink()
    state = fresh(path)
    state.write({"n": COUNT + 1})
    real = Repository.commit

    def checkpointing(self: Repository, commit_id: str, *arguments: object) -> Commit:
        monkeypatch.setattr(Repository, "commit", real)
        state.checkpoint()
        return real(self, commit_id)

    reader = fresh(path)
    reader.read()
    monkeypatch.setattr(Repository, "commit", checkpointing)
    reader.read(at=1)
    monkeypatch.undo()

    assert journal_of(path).stat().st_size > 0
    assert not state._parts.store.dirty


@needs_git
@pytest.mark.parametrize("serial", [2**48, 2**63, 2**70])
def test_a_commit_with_an_absurd_number_is_not_one_of_ours(serial: int, path: Path) -> None:
    state = fresh(path)
    raw = git(state, "cat-file", "commit", "HEAD").decode()
    raw = raw.replace(f"Serial: {COUNT}", f"Serial: {serial}")
    made = git(state, "hash-object", "-t", "commit", "-w", "--stdin", input=raw.encode())
    git(state, "update-ref", "refs/heads/main", made.decode().strip())
    journal_of(path).unlink()

    for at in (5, datetime(2026, 3, 1, 0, 10, tzinfo=UTC), "HEAD"):
        with pytest.raises(StateReadError) as caught:
            fresh(path).read(at=at)
        assert caught.value.code == "not-a-commit"
