"""What runs before the power goes: small programs that say what they are about to do, and what they were promised."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oracle import GIT, Call, flushes_journal, moves_branch, replaces_state

from gitstate import PipelineState, Remote, StateError, Version, due, large
from gitstate.sync import child, courier
from gitstate.sync.fetch import Arrived, Request
from gitstate.sync.fetched import History

Document = dict[str, Any]


class Diary:
    """What a workload says while it runs, one entry after the other.

    "begins" is what the next version may be; "promised" are versions whose transaction has returned; "edited" is what
    somebody saved by hand, None once that is a version.
    """

    def __init__(self, tell: Callable[[Any], None], path: Path) -> None:
        self._tell = tell
        self._name = path.name

    def begins(self, *documents: Document) -> None:
        """From here on these versions may be found, all of them or none."""
        self._tell({"file": self._name, "begins": list(documents)})

    def promised(self, *versions: Version | None) -> None:
        """From here on these versions must be found, and what was begun is done."""
        acks = [(version.id, version.read()) for version in versions if version is not None]
        self._tell({"file": self._name, "promised": acks})

    def edited(self, document: Document | None) -> None:
        """From here on the file may hold this, which no transaction wrote."""
        self._tell({"file": self._name, "edited": document})

    def named(self, name: str, document: Document) -> None:
        """From here on this version has a name."""
        self._tell({"file": self._name, "named": (name, document)})

    def forgets(self, name: str) -> None:
        """From here on no version needs to have this name."""
        self._tell({"file": self._name, "forgets": name})

    def damages(self) -> None:
        """From here on the store may be damaged, and everything must be found once it is repaired."""
        self._tell({"file": self._name, "damages": True})

    def keeps(self, window: int) -> None:
        """So many versions before the current one must be there, and older ones may be pruned."""
        self._tell({"file": self._name, "keeps": window})


Life = Callable[[Path, Diary], None]
"""One process: it works on the state file in a folder, and ends without closing anything, as a killed one does."""


def _write(state: PipelineState, diary: Diary, *documents: Document) -> None:
    for document in documents:
        diary.begins(document)
        diary.promised(state.write(document))


def _counts(first: int, last: int) -> list[Document]:
    return [{"n": number} for number in range(first, last + 1)]


def first_write(path: Path, diary: Diary) -> None:
    _write(PipelineState(path), diary, {"n": 1})


def first_write_in_new_folders(path: Path, diary: Diary) -> None:
    _write(PipelineState(path.parent / "a" / "b" / path.name), diary, {"n": 1})


def transactions(path: Path, diary: Diary) -> None:
    state = PipelineState(path)
    _write(state, diary, *_counts(1, 2))
    for number in (3, 4):
        diary.begins({"n": number})
        with state.transaction(message=f"number {number}") as txn:
            txn.data["n"] = number
        diary.promised(txn.version)


def large_states(path: Path, diary: Diary) -> None:
    texts = [os.urandom(9000).hex() for _ in range(3)]
    _write(PipelineState(path), diary, *({"n": 1, "text": text} for text in texts))


def nothing_changes(path: Path, diary: Diary) -> None:
    state = PipelineState(path)
    _write(state, diary, {"n": 1})
    state.write({"n": 1})
    with state.transaction():
        pass
    _write(state, diary, {"n": 2})


def rollbacks(path: Path, diary: Diary) -> None:
    state = PipelineState(path)
    _write(state, diary, {"n": 1})
    for number in (2, 3):
        with contextlib.suppress(ZeroDivisionError), state.transaction() as txn:
            txn.data["n"] = number / 0
        with contextlib.suppress(StateError):
            state.write({"n": float("nan")})
        _write(state, diary, {"n": number})


def edit_by_hand(path: Path, diary: Diary) -> None:
    state = PipelineState(path)
    _write(state, diary, *_counts(1, 2))
    edit = {"n": 2, "by": "hand"}
    _save(path, edit, diary)
    diary.begins(edit, {"n": 3, "by": "hand"})
    with state.transaction() as txn:
        txn.data["n"] = 3
    made = list(state.log(2))
    diary.edited(None)
    diary.promised(*reversed(made))
    _save(path, {"n": 4}, diary)
    diary.begins({"n": 4})
    saved = state.create_backup()
    diary.edited(None)
    diary.promised(saved)


def _save(path: Path, document: Document, diary: Diary) -> None:
    """What an editor does that cares."""
    diary.edited(document)
    temporary = path.with_name("editor~")
    _put(temporary, document)
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def _put(path: Path, document: Document) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(descriptor, json.dumps(document).encode())
    os.fsync(descriptor)
    os.close(descriptor)


def restores(path: Path, diary: Diary) -> None:
    state = PipelineState(path)
    _write(state, diary, *_counts(1, 3))
    diary.begins({"n": 1})
    state.restore_backup(1)
    diary.promised(next(state.log(1)))
    diary.begins({"n": 3})
    diary.promised(state.undo())
    _write(state, diary, {"n": 5})


def named_backups(path: Path, diary: Diary) -> None:
    state = PipelineState(path)
    for number in (1, 2):
        _write(state, diary, {"n": number})
        state.create_backup(f"keep-{number}")
        diary.named(f"keep-{number}", {"n": number})
    _write(state, diary, {"n": 3})
    state.checkpoint()
    _write(state, diary, {"n": 4})


def checkpoints(path: Path, diary: Diary) -> None:
    state = PipelineState(path)
    for number in range(1, 8):
        _write(state, diary, {"n": number})
        if number in {2, 4, 6}:
            with contextlib.suppress(ZeroDivisionError), state.transaction():
                _ = number / 0  # a note, which nobody has flushed when the checkpoint begins
            state.checkpoint()


def prunes(path: Path, diary: Diary) -> None:
    state = PipelineState(path, max_backups=2)
    diary.keeps(2)
    _write(state, diary, *_counts(1, 2))
    state.create_backup("keep-2")
    diary.named("keep-2", {"n": 2})
    _write(state, diary, *_counts(3, 6))
    state.prune()
    with contextlib.suppress(ZeroDivisionError), state.transaction():
        _ = 1 / 0
    _write(state, diary, *_counts(7, 8))
    diary.forgets("keep-2")
    state.delete_backup("keep-2")
    state.prune()
    _write(state, diary, {"n": 9})


def prunes_as_it_closes(path: Path, diary: Diary) -> None:
    diary.keeps(1)
    for number in (1, 4, 7):
        with PipelineState(path, max_backups=1) as state:
            _write(state, diary, *_counts(number, number + 2))


def close_and_open(path: Path, diary: Diary) -> None:
    for number in (1, 3):
        with PipelineState(path) as state:
            _write(state, diary, *_counts(number, number + 1))


def full_journals(path: Path, diary: Diary) -> None:
    due.JOURNAL_LIMIT, due._MIN_RECORDS = 24 * 1024, 3
    _write(PipelineState(path), diary, *_counts(1, 12))


def large_objects(path: Path, diary: Diary) -> None:
    """Every object in a file of its own, across rollbacks, an edit, a checkpoint that falls due, and one that is asked for."""
    large.LARGE = 0
    due.JOURNAL_LIMIT, due._MIN_RECORDS = 16 * 1024, 2
    state = PipelineState(path)
    _write(state, diary, *_counts(1, 2))
    with contextlib.suppress(ZeroDivisionError), state.transaction():
        _ = 1 / 0
    _write(state, diary, *_counts(3, 5))
    edit = {"n": 5, "by": "hand"}
    _save(path, edit, diary)
    diary.begins(edit, {"n": 6})
    state.write({"n": 6})
    made = list(state.log(2))
    diary.edited(None)
    diary.promised(*reversed(made))
    state.checkpoint()
    _write(state, diary, *_counts(7, 8))


def without_versions(path: Path, diary: Diary) -> None:
    state = PipelineState(path)
    _write(state, diary, {"n": 1})
    quick = PipelineState(path, backup_before_write=False)
    diary.edited({"n": 2})
    quick.write({"n": 2})
    diary.begins({"n": 2})
    made = state.create_backup()
    diary.edited(None)
    diary.promised(made)
    _write(state, diary, {"n": 3})


def imports(path: Path, diary: Diary) -> None:
    """What another state manager has left, and two transactions behind it; what it leaves later is kept aside."""
    folder = path.parent / ".pipeline" / "backups"
    folder.mkdir(parents=True, mode=0o700)
    _put(folder / f"{path.stem}_20250301_120000_000000.json.bak", {"n": 1})
    _put(folder / f"{path.stem}_20250301_130000_000000.json.bak", {"n": 2})
    line = {"timestamp": "2025-03-01T12:00:00", "operation": "write_commit", "success": True}
    _put(folder.parent / "transactions.log", line)
    _save(path, {"n": 3}, diary)
    state = PipelineState(path)
    diary.begins(*_counts(1, 3))
    state.import_backups()
    diary.edited(None)
    diary.promised(*list(state.log())[::-1])
    _write(state, diary, {"n": 4})
    _put(folder / f"{path.stem}_20250301_140000_000000.json.bak", {"n": 2.5})
    state.import_backups()
    diary.named(f"import/{path.stem}_20250301_140000_000000", {"n": 2.5})
    _write(state, diary, {"n": 5})


def repairs(path: Path, diary: Diary) -> None:
    """Damage all over a store, of which nothing is lost: what is damaged is in the journal or in a pack as well."""
    state = PipelineState(path)
    _write(state, diary, {"n": 1})
    state.create_backup("keep")
    diary.named("keep", {"n": 1})
    state.close()
    _write(state, diary, {"n": 2})
    diary.damages()
    (pack,) = state.git_dir.glob("objects/pack/*.idx")
    loose = min(state.git_dir.glob("objects/[0-9a-f][0-9a-f]/*"))
    for damaged, content in (
        (pack, pack.read_bytes()[:-1]),
        (loose, b""),
        (state.git_dir / "refs/heads/other", b"12" * 20),
    ):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(damaged)
        descriptor = os.open(damaged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, content)
        os.fsync(descriptor)
        os.close(descriptor)
    os.unlink(state.git_dir / "HEAD")
    state.repair()
    _write(state, diary, {"n": 3})


def pulls(path: Path, diary: Diary) -> None:
    """Versions come from another machine, twice, with a name and notes; what fetches them is in this process here."""
    state = PipelineState(path)
    _write(state, diary, *_counts(1, 2))
    with tempfile.TemporaryDirectory() as name:
        elsewhere = Path(name, "elsewhere")
        shutil.copytree(path.parent, elsewhere)
        other = PipelineState(elsewhere / path.name)
        state.remotes.add("origin", other.git_dir)
        for first in (3, 6):
            other.create_backup(f"keep-{first - 1}")
            for number in range(first, first + 2):
                with contextlib.suppress(ZeroDivisionError), other.transaction():
                    _ = 1 / 0
                other.write({"n": number})
            other.checkpoint()
            with contextlib.suppress(ZeroDivisionError), state.transaction():
                _ = 1 / 0  # so that what both have noted is joined
            diary.begins(*_counts(first, first + 1))
            with _fetching_here():
                state.pull()
            diary.promised(*list(state.log(2))[::-1])
            diary.named(f"keep-{first - 1}", {"n": first - 1})
            _write(state, diary, {"n": first + 2})
            other.remotes.add("here", state.git_dir)
            with _fetching_here():
                other.pull("here")
            other.remotes.remove("here")
        other.close()


@contextlib.contextmanager
def _fetching_here() -> Iterator[None]:
    """What a child process would write into the quarantine, this one writes, and it is recorded."""

    def here(remote: Remote, request: Request, place: Path, _: object) -> Arrived:
        found = child._Fetching(remote, request, place).run()
        pack = place / "objects" / "pack" / found["pack"] if found["pack"] else None
        return Arrived(History.from_json(found["history"]), pack, place)

    tells, fetches = child._tell, courier.fetch
    child._tell, courier.fetch = lambda *_: None, here
    try:
        yield
    finally:
        child._tell, courier.fetch = tells, fetches


def two_files(path: Path, diary: Diary) -> None:
    state, other = PipelineState(path), PipelineState(path.with_name("other.json"))
    beside = Diary(diary._tell, other.path)
    for number in (1, 2):
        _write(state, diary, {"n": number})
        _write(other, beside, {"n": 10 * number})


def somebody_else_goes_on(path: Path, diary: Diary) -> None:
    """A second process: it finds whatever the first has left, looks, and writes."""
    state = PipelineState(path)
    found = state.read().get("n", 0)
    diary.promised(*state.log(1))  # what has been read must not go away again
    _write(state, diary, {"n": found + 1}, {"n": found + 2})


def goes_on_after_two(path: Path, diary: Diary) -> None:
    """A process that writes two versions; it is killed in the third."""
    _write(PipelineState(path), diary, *_counts(1, 3))


def _in_the_third(call: Callable[[Call], bool]) -> Callable[[], Callable[[Call], bool]]:
    def fresh_count() -> Callable[[Call], bool]:
        seen = 0

        def third(each: Call) -> bool:
            nonlocal seen
            seen += call(each)
            return seen == 3

        return third

    return fresh_count


@dataclass(frozen=True)
class Workload:
    """Processes, one after the other, of which each may be killed before the file call that its `death` accepts."""

    lives: tuple[Life, ...]
    death: Callable[[], Callable[[Call], bool]] | None = None


WORKLOADS = {
    life.__name__: Workload((life,))
    for life in (
        first_write,
        first_write_in_new_folders,
        transactions,
        large_states,
        nothing_changes,
        rollbacks,
        edit_by_hand,
        restores,
        named_backups,
        checkpoints,
        prunes,
        prunes_as_it_closes,
        close_and_open,
        full_journals,
        large_objects,
        without_versions,
        imports,
        repairs,
        *([pulls] if GIT else []),
        two_files,
    )
} | {
    "hand-over": Workload((transactions, somebody_else_goes_on)),
    **{
        f"hand-over, killed {name}": Workload(
            (goes_on_after_two, somebody_else_goes_on), _in_the_third(death)
        )
        for name, death in {
            "before the journal's flush": flushes_journal,
            "before the rename": replaces_state,
            "before the branch moves": moves_branch,
        }.items()
    },
}
