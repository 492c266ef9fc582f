"""The bytes of a store flipped, and its files cut, one at a time; strange bytes for whatever reads bytes.

Either everything works, and what is read is what was once written, or there is an error with a name. Never another
exception, never a call that does not come back, never a document that nobody wrote.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import shutil
import signal
import struct
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import (
    KILLED,
    Document,
    Tally,
    Tell,
    dying_before,
    fork,
    forks,
    fresh,
    in_parallel,
    leave,
    replaces_state,
)

from gitstate import PipelineState, StateError, StateReadError, codec, trailers
from gitstate.journal import GROWTH, RECORD_MAGIC, Journal, read_all
from gitstate.layout import Layout
from gitstate.lock import StateLock
from gitstate.part import BLOCK
from gitstate.record import (
    GitObject,
    Record,
    RefChange,
    Standing,
    decode_base,
    decode_record,
    encode_base,
    encode_record,
)
from gitstate.registry import open_store
from gitstate.repository.refs import Refs

pytestmark = [
    forks,
    # Warnings are errors: this one would be raised in place of a failure that comes with a long value.
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]

BYTES_A_FILE = 24
"""Bytes of each file that are damaged in the normal run; all of them with `--long`, but for the journal's empty space."""

PADDING = 64
"""Of so many bytes of that, as far from anything written, one is damaged."""

PATIENCE_SECONDS = 60
"""What comes back at all comes back long before."""

DAMAGE = {
    "flip": lambda content, at: content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :],
    "cut": lambda content, at: content[:at],
}


# -- the stores that are damaged ---------------------------------------------------------------------------------------


class Saved(NamedTuple):
    """A file of a store; what is linked keeps its identity, by which gitstate tells its own files from edits."""

    content: bytes
    mode: int
    original: Path


@dataclass(frozen=True)
class Sample:
    """A store as it lies on the disk, and what was written into it.

    Attributes:
        folders: its folders and their modes, each behind the one it is in.
        files: its files by their paths.
        versions: id and document of each version, oldest first.
        told: how many of them were acknowledged; the others may be there or not.
    """

    folders: dict[str, int]
    files: dict[str, Saved]
    versions: list[tuple[str, Document]]
    told: int

    def lay_out(self, folder: Path, damaged: str, content: bytes) -> Path:
        """Puts it into `folder`, with other bytes in one of its files; the path of its state file."""
        for name, mode in self.folders.items():
            (folder / name).mkdir(mode=mode)
        for name, saved in self.files.items():
            place = folder / name
            if name != damaged and os.sep not in name and not name.endswith(".lock"):
                os.link(saved.original, place)
                continue
            place.write_bytes(content if name == damaged else saved.content)
            place.chmod(saved.mode)
        return folder / "pipeline.json"


DOCUMENTS: list[Document] = [
    {"n": 1, "phase1": {"status": "success"}},
    {"n": 2, "phase1": {"status": "success", "note": "é"}},
    {"n": 3, "list": [1, 2.5, None, "x" * 40]},
]


def _closed(path: Path) -> int:
    with PipelineState(path) as state:
        for document in DOCUMENTS[:2]:
            state.write(document)
        state.create_backup("keep")
    return 2


def _live(path: Path) -> int:
    """Packed and loose objects, and records in the journal that are in place."""
    _closed(path)
    state = fresh(path)
    state.write(DOCUMENTS[2])
    with contextlib.suppress(ZeroDivisionError), state.transaction() as txn:
        txn.data["n"] = 1 / 0
    leave(state)
    return 3


def _killed(path: Path) -> int:
    """Killed behind the commit point of the third version: nothing of it is in place yet."""

    def work(tell: Tell) -> None:
        state = fresh(path)
        with dying_before(replaces_state):
            state.write(DOCUMENTS[2])

    _closed(path)
    child = fork(work)
    assert child.wait() == KILLED
    return 2


STORES: dict[str, Callable[[Path], int]] = {"closed": _closed, "live": _live, "killed": _killed}


def make_sample(kind: str, folder: Path) -> Sample:
    """A store of this kind, made in `folder`, where the originals of its files stay."""
    folder.mkdir()
    path = folder / "pipeline.json"
    told = STORES[kind](path)
    folders, saved = {}, {}
    for each in sorted(folder.rglob("*")):
        name = os.path.relpath(each, folder)
        mode = each.stat().st_mode & 0o7777
        if each.is_dir():
            folders[name] = mode
        else:
            saved[name] = Saved(each.read_bytes(), mode, each)
    aside = folder.with_name("aside")
    shutil.copytree(folder, aside)
    state = fresh(aside / "pipeline.json")
    versions = [(version.id, version.read()) for version in state.log()][::-1]
    leave(state)
    shutil.rmtree(aside)
    if kind == "killed" and len(versions) == told:
        # A copy of the state file is a stranger's, so the version was kept and the file was not: as it must be.
        raise AssertionError("the third version is not in the journal")
    assert [document for _, document in versions] == DOCUMENTS[: len(versions)]
    return Sample(folders, saved, versions, told)


def places(sample: Sample, seed: str, *, every: bool) -> list[tuple[str, int]]:
    """The bytes to damage: `every` one that was written, or some of each file, the first and the last among them."""
    chance = random.Random(seed)
    chosen = []
    for name, saved in sample.files.items():
        content, size = saved.content, len(saved.content)
        spots = list(range(size))
        if every and "journal." in name:
            # Of the zeros between records and behind them, which are there for later, one in so many.
            shift = chance.randrange(PADDING)
            spots = [
                at
                for at in spots
                if any(content[max(0, at - PADDING) : at + PADDING]) or at % PADDING == shift
            ]
        elif not every and size > BYTES_A_FILE:
            written = [at for at in spots if content[at]] or spots
            some = chance.sample(written, min(len(written), BYTES_A_FILE - 4))
            spots = sorted({0, size - 1, *some, chance.randrange(size), chance.randrange(size)})
        chosen += [(name, at) for at in spots]
    return chosen


# -- what is tried with a damaged store --------------------------------------------------------------------------------


class DoesNotComeBack(BaseException):
    """A call took so long that it is taken for one that never ends."""


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Raises `DoesNotComeBack` where the block would hang the whole run."""

    def give_up(number: int, frame: object) -> None:
        raise DoesNotComeBack

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Trial:
    """What a program may do with a damaged store, and what it may find."""

    def __init__(self, sample: Sample, path: Path, damaged: str) -> None:
        self.sample = sample
        self.path = path
        self.errors: Counter[str] = Counter()
        self.known = dict(sample.versions)
        told = sample.told
        self.current = [document for _, document in sample.versions[told - 1 :]]
        if damaged == "pipeline.json":
            self.current = [*self.current, *edit_in(path.read_bytes())]
        self.state = fresh(path)

    def run(self, first: int) -> None:
        """All of it; what comes first rotates, since the first call is the one that recovers."""
        looks = [self.read, self.log, self.versions, self.verify]
        for look in (*looks[first % 4 :], *looks[: first % 4]):
            self.attempt(look)
        self.attempt(self.transact)
        self.attempt(self.versions)
        self.attempt(self.read)

    def attempt(self, what: Callable[[], None]) -> None:
        try:
            what()
        except StateError as error:
            self.errors[error.code] += 1

    def read(self) -> None:
        found = self.state.read()
        assert found in self.current, f"read() gives {found}"

    def log(self) -> None:
        found = list(self.state.log())[::-1]
        ids = [version.id for version in found]
        allowed = [id_ for id_, _ in self.sample.versions]
        assert ids == allowed or ids == allowed[: self.sample.told], f"log() gives {ids}"
        assert [version.serial for version in found] == [*range(1, len(ids) + 1)]
        for version in found:
            self.attempt(lambda version=version: self.judge(version.id, version.read()))

    def versions(self) -> None:
        for serial, (id_, _) in enumerate(self.sample.versions, 1):
            # A serial that nobody was told of may be another version's by now.
            for name in (id_, id_[:10], *([serial] if serial <= self.sample.told else [])):
                self.attempt(lambda id_=id_, name=name: self.judge(id_, self.state.read(at=name)))

    def judge(self, id_: str, found: Document) -> None:
        assert found == self.known[id_], f"version {id_} gives {found}"

    def verify(self) -> None:
        assert all(isinstance(line, str) for line in self.state.verify().problems)

    def transact(self) -> None:
        with self.state.transaction() as txn:
            assert txn.original_data in self.current, f"the block begins with {txn.original_data}"
            before = dict(txn.data)
            txn.data["probe"] = True
        after = {**before, "probe": True}
        assert json.loads(self.path.read_bytes()) == after
        assert txn.version is not None
        assert txn.version.serial > self.sample.told
        self.current = [after]
        self.known[txn.version.id] = after
        self.judge(txn.version.id, self.state.read(at=txn.version.id))
        for id_, document in self.sample.versions[: self.sample.told]:
            ids = [version.id for version in self.state.log()]
            assert id_ in ids, f"{id_} {document} is not in the history any more"


def edit_in(content: bytes) -> list[Document]:
    """What somebody's bytes say, if they are a JSON object."""
    try:
        found = json.loads(content)
    except ValueError:
        return []
    return [found] if isinstance(found, dict) else []


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", STORES)
def test_a_damaged_byte_is_an_error_with_a_name_or_does_no_harm(
    kind: str,
    damage: str,
    memory: Path,
    seed: str,
    scale: Callable[[int, int], int],
    tally: Tally,
) -> None:
    sample = make_sample(kind, memory / "original")
    spots = places(sample, f"{seed} {kind} {damage}", every=bool(scale(0, 1)))
    assert {name for name, _ in spots} == {name for name, s in sample.files.items() if s.content}

    def explore(first: int, step: int) -> int:
        gc.disable()
        failures: dict[str, str] = {}
        codes: Counter[str] = Counter()
        for number in range(first, len(spots), step):
            name, at = spots[number]
            content = DAMAGE[damage](sample.files[name].content, at)
            folder = memory / f"{number}"
            folder.mkdir()
            try:
                path = sample.lay_out(folder, name, content)
                trial = Trial(sample, path, name)
                store = weakref.ref(open_store(path))
                with patience():
                    trial.run(number)
                leave(trial.state)
                codes += trial.errors
                trial = None
                assert store() is None, (
                    "an error keeps the store, and its files, until a collection"
                )
            except (Exception, DoesNotComeBack) as error:
                # One of each sort is enough, but all sorts: one bug must not hide another.
                place = traceback.extract_tb(error.__traceback__)[-1]
                sort = f"{name.partition('objects')[0]} {type(error).__name__} {place.name}"
                where = f"{damage} byte {at} of {name} in the {kind} store, case {number}"
                failures.setdefault(sort, f"{where}:\n{traceback.format_exc()}")
            shutil.rmtree(folder)
        assert not failures, "\n".join(failures.values())
        print(f"errors in {kind}, {damage}: {dict(codes)}")
        return len(range(first, len(spots), step))

    done = in_parallel(explore)
    tally("bytes flipped, or files cut there", done)
    assert done == len(spots)


def test_an_index_that_promises_billions_of_objects_does_not_make_a_look_up_endless(
    path: Path,
) -> None:
    state = fresh(path)
    state.write({"n": 0})
    state.close()
    (index,) = (state.git_dir / "objects/pack").glob("*.idx")
    number, version = 1, state.write({"n": 1})
    while version is None or version.id.startswith("ff"):
        number += 1
        version = state.write({"n": number})
    leave(state)
    content = bytearray(index.read_bytes())
    # gitformat-pack(5): how many ids begin with up to the byte behind that of the id; the highest byte of that number
    content[8 + 4 * (int(version.id[:2], 16) + 1)] ^= 0xFF
    index.chmod(0o644)
    index.write_bytes(content)

    with patience(), pytest.raises(StateError) as caught:
        fresh(path).read(at=version.id[:10])

    assert caught.value.code == "object-damaged"
    assert fresh(path).read(at=version.id) == {"n": number}


# -- strange bytes -----------------------------------------------------------------------------------------------------

EXAMPLES = 300
LONG_EXAMPLES = 30_000

Examples = Callable[..., None]


@pytest.fixture
def examples(seed: str, scale: Callable[[int, int], int], tally: Tally) -> Examples:
    """Runs a function with values that chance has made, as often as was asked for."""

    def run(function: Callable[[Any], None], values: st.SearchStrategy[Any]) -> None:
        count = 0

        def one(value: Any) -> None:
            nonlocal count
            count += 1
            function(value)

        chosen = settings(
            max_examples=scale(EXAMPLES, LONG_EXAMPLES),
            derandomize=False,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        with patience() if not scale(0, 1) else contextlib.nullcontext():
            hypothesis.seed(seed)(chosen(given(value=values)(one)))()
        tally("strange bytes given to a reader", count)

    return run


def test_a_failure_that_comes_with_a_long_value_is_raised_as_it_is(examples: Examples) -> None:
    def refuse(content: bytes) -> None:
        raise AssertionError

    with pytest.raises(AssertionError):
        examples(refuse, st.just(bytes(10_000)))


NESTED = st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b'{"refs":' + b"[" * 100_000])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([10**400, "1" * 5000, "a" * 40, "refs/heads/main"]),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(
            st.text(max_size=3)
            | st.sampled_from(
                ["refs", "state", "objects", "adopts", "aborts", "max_backups", "pid"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def mangled(originals: list[bytes]) -> st.SearchStrategy[bytes]:
    """Valid bytes with some of them replaced, cut out, doubled, or with others put in between; and any bytes at all."""

    @st.composite
    def mangle(draw: st.DrawFn) -> bytes:
        content = bytearray(draw(st.sampled_from(originals)))
        for _ in range(draw(st.integers(1, 4))):
            start = draw(st.integers(0, len(content)))
            end = draw(st.integers(start, min(len(content), start + 40)))
            piece = bytes(content[start:end])
            content[start:end] = draw(
                st.just(b"")
                | st.binary(max_size=8)
                | st.just(piece * 2)
                | st.sampled_from([b"\0", b"\n", b"-1", b"1e999", b"null", b"\xff", b"\\ud800"])
            )
        return bytes(content)

    return mangle() | st.binary(max_size=200)


def _id(number: int) -> str:
    return f"{number:040x}"


def records(folder: Path) -> list[Record]:
    """One of each sort, for a journal in `folder`, where the file of the large object would be."""
    large = GitObject(_id(4), folder / "journal-0123456789abcdef.object")
    return [
        Record(1, (GitObject(_id(1), b"one"),), (RefChange("refs/heads/main", (None,), _id(1)),)),
        Record(2, (GitObject(_id(2), b"two" * 2000),), adopts=_id(3)),
        Record(3, (large,)),
        Record(4, aborts=3),
        Record(5, (), (RefChange("refs/backups/keep", (None, _id(1)), _id(2)),)),
    ]


def _meta(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


def only(*expected: type[Exception]) -> Any:
    """Suppresses these; everything else is a failure."""
    return contextlib.suppress(*expected)


PAYLOADS = mangled(
    [encode_record(record) for record in records(Path("store"))]
    + [encode_base(Standing({"a": _id(1)}, ""))]
) | JSON.map(lambda value: _meta(json.dumps(value).encode()))


def test_a_record_of_any_bytes_is_a_record_or_a_value_error(examples: Examples) -> None:
    def decode(payload: bytes) -> None:
        with only(ValueError):
            assert decode_record(payload, 7, Path("store")).sequence == 7

    examples(decode, PAYLOADS)


@pytest.mark.parametrize("name", ["../pipeline.json", "settings.json", "", "journal-0.object"])
def test_a_record_names_no_file_but_that_of_a_large_object(name: str) -> None:
    payload = encode_record(Record(1, (GitObject(_id(1), Path(name)),)))
    payload = payload.replace(json.dumps(Path(name).name).encode(), json.dumps(name).encode())

    with pytest.raises(ValueError):
        decode_record(payload, 1, Path("store"))


def test_a_base_of_any_bytes_is_a_base_or_a_value_error(examples: Examples) -> None:
    def decode(payload: bytes) -> None:
        with only(ValueError):
            assert isinstance(decode_base(payload), Standing)

    examples(decode, PAYLOADS)


@pytest.mark.parametrize("opening", [b"[", b'{"refs":', b'{"objects":'])
def test_a_record_nested_too_deeply_is_a_value_error(opening: bytes) -> None:
    payload = _meta(opening * 100_000)

    with pytest.raises(ValueError):
        decode_record(payload, 1, Path("store"))
    with pytest.raises(ValueError):
        decode_base(payload)


def _journal_bytes(folder: Path) -> bytes:
    folder.mkdir()
    journal = Journal.start(folder, Standing(), (), 0)
    for record in records(folder):
        journal.append(record)
    journal.close()
    content = journal.path.read_bytes()
    shutil.rmtree(folder)
    return content.rstrip(b"\0") + bytes(3 * BLOCK)


def read_journal(folder: Path, content: bytes) -> int:
    """How many records a journal of these bytes in `folder` gives: the first that were appended, none if it is damaged."""
    appended, count = records(folder), 0
    (folder / "journal.00000001").write_bytes(content)
    with only(StateReadError):
        _, found, _ = read_all(folder)
        assert found == appended[: len(found)]
        count = len(found)
    with only(StateReadError), contextlib.closing(Journal.open(folder)) as journal:
        found = journal.follow()
        assert found == appended[: len(found)]
        journal.clean_tail()
        journal.clean_rest()
    with only(StateReadError), contextlib.closing(Journal.open(folder)) as journal:
        last = journal.latest()
        assert last is None or last in appended
    return count


def test_a_journal_that_ends_behind_any_record_gives_all_before(memory: Path) -> None:
    content = _journal_bytes(memory / "one")
    ends = [at for at in range(0, len(content), BLOCK) if content.startswith(RECORD_MAGIC, at)]

    found = [read_journal(memory, content[:end]) for end in (*ends, len(content))]

    assert found == [0, 1, 2, 3, 4, 5]


def test_a_journal_of_any_bytes_gives_a_beginning_of_what_was_appended_or_an_error(
    memory: Path, examples: Examples
) -> None:
    one, other = _journal_bytes(memory / "one"), _journal_bytes(memory / "other")
    wholes = [one[at : at + BLOCK] for at in range(0, len(one), BLOCK)]
    strangers = [other[at : at + BLOCK] for at in range(0, len(other), BLOCK)]
    spliced = st.lists(st.sampled_from(wholes + strangers), max_size=12).map(b"".join)
    prefixed = st.lists(st.sampled_from(wholes + strangers), max_size=8).map(
        lambda blocks: wholes[0] + b"".join(blocks)
    )
    folder = memory / "store"
    folder.mkdir()

    def read(content: bytes) -> None:
        read_journal(folder, content)

    examples(read, mangled([one, one[: 2 * BLOCK]]) | spliced | prefixed | st.just(bytes(GROWTH)))


@pytest.mark.parametrize("name", ["journal.9", "journal.000000000009", "journal.0", "journal.٣"])
def test_a_file_that_is_called_almost_like_a_journal_does_not_stop_a_reader(
    name: str, path: Path
) -> None:
    state = fresh(path)
    state.write({"n": 1})
    leave(state)
    (path.parent / ".pipeline" / name).write_bytes(b"")

    with patience_of(5):
        found = None
        with only(StateReadError):
            found = fresh(path).read()
    assert found in (None, {"n": 1})


@contextlib.contextmanager
def patience_of(seconds: int) -> Iterator[None]:
    """As `patience`, where a hang is known to be a busy one."""
    with patience():
        signal.alarm(seconds)
        yield


NOTE = trailers.Note("write", 3, datetime(2026, 3, 1, tzinfo=UTC), 7, "host", ("a", "b,\n"), "text")


def test_a_commit_message_of_any_bytes_is_a_note_or_a_value_error(examples: Examples) -> None:
    def decode(content: bytes) -> None:
        with only(ValueError):
            note = trailers.decode(content)
            assert note.time.tzinfo is not None
            assert note.serial >= 0

    whole = trailers.encode(NOTE)
    moments = st.sampled_from(
        [b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59", b"2026-03-01", b"24:00"]
    )
    dated = moments.map(lambda at: whole.replace(b"2026-03-01T00:00:00.000000+00:00", at))
    keyed = (JSON.map(lambda value: json.dumps(value).encode()) | NESTED).map(
        lambda keys: whole.replace(b'["a", "b,\\n"]', keys)
    )
    examples(decode, mangled([whole]) | dated | keyed)


def test_a_document_of_any_bytes_is_an_object_or_an_error_with_a_name(examples: Examples) -> None:
    def decode(content: bytes) -> None:
        for function in (codec.decode, codec.decode_foreign):
            for allow_nan in (False, True):
                with only(StateReadError):
                    document = function(content, allow_nan=allow_nan)
                    assert isinstance(document, dict)
                    if function is codec.decode_foreign:
                        again = codec.decode(
                            codec.encode(document, allow_nan=allow_nan), allow_nan=True
                        )
                        assert repr(again) == repr(document)

    documents = [json.dumps(document).encode() for document in DOCUMENTS]
    objects = st.dictionaries(st.text(max_size=3), JSON, max_size=3)
    numbers = st.sampled_from([b"1" * 5000, b"-" + b"9" * 4301, b"1e400", b"-0", b"1.0e+2", b"1E2"])
    examples(
        decode,
        mangled([*documents, b'{"a": 1, "a": 2}', b'{"\\ud800": "\\udfff"}'])
        | objects.map(lambda value: json.dumps(value).encode())
        | numbers.map(lambda number: b'{"a": %s}' % number)
        | NESTED,
    )


# -- strange bytes in the files of a store -----------------------------------------------------------------------------


@pytest.fixture
def store(memory: Path) -> Path:
    """The state file of a small store that nobody has open."""
    path = memory / "state" / "pipeline.json"
    path.parent.mkdir()
    _closed(path)
    return path


def test_refs_of_any_bytes_are_ids_or_an_error_with_a_name(store: Path, examples: Examples) -> None:
    repo = store.parent / ".pipeline" / "repo"
    refs = Refs(repo)
    main = (repo / "refs/heads/main").read_bytes()
    packed = b"# pack-refs with: peeled fully-peeled sorted\n%s refs/heads/other\n^%s\n" % (
        main.strip(),
        main.strip(),
    )

    def read(case: tuple[str, bytes]) -> None:
        name, content = case
        file = repo / name
        before = file.read_bytes() if file.exists() else None
        file.write_bytes(content)
        try:
            with only(StateReadError):
                for found in refs.all("refs/").values():
                    assert len(found) == 40
                    int(found, 16)
            with only(StateReadError):
                refs.read("refs/heads/main")
            state = fresh(store)
            with only(StateReadError):
                assert [version.read() for version in state.log()] == DOCUMENTS[1::-1]
            assert state.read() == DOCUMENTS[1]
            leave(state)
        finally:
            file.unlink()
            if before is not None:
                file.write_bytes(before)

    names = st.sampled_from(
        ["refs/heads/main", "packed-refs", "HEAD", "refs/backups/keep", "refs/heads/x", "config"]
    )
    examples(read, st.tuples(names, mangled([main, packed, b"ref: refs/heads/main\n"])))


def test_settings_and_format_of_any_bytes_are_understood_or_an_error_with_a_name(
    store: Path, examples: Examples
) -> None:
    layout = Layout(store)
    settings_file, format_file = layout.store / "settings.json", layout.store / "format"
    before = {file: file.read_bytes() for file in (settings_file, format_file)}

    def read(case: tuple[Path, bytes]) -> None:
        file, content = case
        file.write_bytes(content)
        try:
            with only(StateReadError):
                limit = layout.settings().max_backups
                assert limit is None or limit >= 0
            state = fresh(store)
            with only(StateReadError):
                assert [version.read() for version in state.list_backups(None)] in (
                    [DOCUMENTS[0]],
                    [],
                )
            with only(StateReadError):
                assert state.read() == DOCUMENTS[1]
            with only(StateReadError):
                state.create_backup()
            leave(state)
        finally:
            file.write_bytes(before[file])

    contents = (
        mangled(list(before.values()))
        | JSON.map(lambda value: json.dumps(value).encode())
        | JSON.map(lambda value: json.dumps({"max_backups": value}).encode())
        | NESTED
    )
    examples(read, st.tuples(st.sampled_from(list(before)), contents))


def test_a_lock_file_of_any_bytes_names_a_holder_or_nobody(
    memory: Path, examples: Examples
) -> None:
    lock = StateLock(memory / "x.lock")
    lock.acquire(0, "work")
    named = lock.path.read_bytes()
    lock.release()

    def read(content: bytes) -> None:
        lock.path.write_bytes(content)
        holder = lock.holder()
        assert holder is None or isinstance(holder.pid, int)
        str(holder)
        lock.acquire(0, "work")
        lock.release()

    described = st.fixed_dictionaries({"pid": JSON, "host": JSON, "operation": JSON, "since": JSON})
    lines = (described | JSON).map(lambda value: b"\n" + json.dumps(value).encode())
    examples(read, mangled([named]) | lines | NESTED.map(lambda content: b"\n" + content))
