"""The redo journal by itself: what was appended is there, what was torn is not, and damage is told from both."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstate import StateReadError, StateWriteError, files
from gitstate.files import Identity
from gitstate.generations import generations
from gitstate.journal import GROWTH, Journal
from gitstate.part import BLOCK, HEADER_SIZE
from gitstate.record import (
    GitObject,
    Record,
    RefChange,
    Standing,
    StateChange,
    effective,
    merge,
)

MAIN = "refs/heads/main"


def _id(number: int) -> str:
    return f"{number:040x}"


def _record(sequence: int, size: int = 10, **more: object) -> Record:
    content = random.Random(sequence).randbytes(size)
    fields: dict[str, object] = {
        "objects": (GitObject(_id(sequence), content),),
        "refs": (RefChange(MAIN, (_id(sequence - 1) if sequence > 1 else None,), _id(sequence)),),
        "state": StateChange(
            _id(sequence),
            f".pipeline.json.{sequence:016x}.tmp",
            Identity(sequence, size, sequence),
            (Identity(sequence - 1, size, sequence - 1),),
        ),
    }
    return Record(sequence, **{**fields, **more})  # type: ignore[arg-type]


def _journal(directory: Path, *records: Record, base: Standing | None = None) -> Journal:
    journal = Journal.start(directory, base or Standing(), (), 0)
    for record in records:
        journal.append(record)
    return journal


def _read(directory: Path) -> list[Record]:
    journal = Journal.open(directory)
    try:
        return journal.scan()
    finally:
        journal.close()


def _edit(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def _part(magic: bytes, salt: bytes, sequence: int, payload: bytes) -> bytes:
    """A whole part, as the format says, whatever its payload."""
    prefix = struct.pack("<8s16sQQQ", magic, salt, sequence, sequence - 1, len(payload))
    digest = hashlib.blake2b(prefix + payload, digest_size=16).digest()
    part = prefix + digest + payload
    return part + bytes(-len(part) % BLOCK)


# -- what is appended ----------------------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_appended(tmp_path: Path) -> None:
    records = [
        _record(1),
        Record(2),
        Record(3, aborts=2),
        Record(4, refs=(RefChange("refs/backups/ü", (None, _id(1)), _id(2)),)),
        _record(5, 100_000),
        Record(6, (GitObject(_id(1), b""), GitObject(_id(2), b"x" * BLOCK))),
        Record(
            7,
            state=StateChange(_id(7), ".t", Identity(2**63 - 1, 0, 2**62), (), content=b"content"),
        ),
        Record(8, adopts=_id(3)),
    ]

    _journal(tmp_path, *records).close()

    assert _read(tmp_path) == records


@given(
    st.lists(
        st.builds(
            Record,
            sequence=st.just(0),
            objects=st.lists(
                st.builds(GitObject, st.integers(0, 99).map(_id), st.binary(max_size=9000)),
                max_size=4,
            ).map(tuple),
            refs=st.lists(
                st.builds(
                    RefChange,
                    st.text(max_size=30),
                    st.lists(st.none() | st.just(_id(1)), max_size=3).map(tuple),
                    st.just(_id(2)),
                ),
                max_size=3,
            ).map(tuple),
            aborts=st.none() | st.integers(0, 2**40),
            adopts=st.none() | st.just(_id(4)),
        ),
        max_size=6,
    )
)
def test_any_records_are_read_as_they_were_appended(
    tmp_path_factory: pytest.TempPathFactory, made: list[Record]
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    records = [
        Record(number, each.objects, each.refs, None, each.adopts, each.aborts)
        for number, each in enumerate(made, 1)
    ]

    _journal(directory, *records).close()

    assert _read(directory) == records


def test_the_base_is_kept(tmp_path: Path) -> None:
    base = Standing({MAIN: _id(5), "refs/audit/failures": _id(6)}, _id(7))

    _journal(tmp_path, base=base).close()

    journal = Journal.open(tmp_path)
    assert journal.base == base
    assert journal.next_sequence == 1
    journal.close()


def test_records_begin_on_blocks_and_space_is_taken_ahead_in_large_steps(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    for number in range(1, 40):
        journal.append(_record(number, number * 700))

        content = journal.path.read_bytes()
        assert len(content) % GROWTH == 0
        assert journal.size % BLOCK == 0
        assert not any(content[journal.size :])
    starts = [at for at in range(0, len(content), BLOCK) if content[at : at + 8] == b"gsrec001"]
    assert len(starts) == 39
    journal.close()


def test_appending_does_not_change_a_byte_of_what_was_there(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    before = b""
    for number in range(1, 20):
        assert journal.path.read_bytes()[: len(before)] == before
        journal.append(_record(number, 3000))
        before = journal.path.read_bytes()[: journal.size]
    journal.close()


def test_another_reader_follows_what_is_appended(tmp_path: Path) -> None:
    writer = _journal(tmp_path, _record(1))
    reader = Journal.open(tmp_path)

    assert reader.follow() == [_record(1)]
    assert reader.follow() == []
    writer.append(_record(2, 20_000))
    writer.append(_record(3))
    assert reader.follow() == [_record(2, 20_000), _record(3)]
    assert reader.next_sequence == 4
    assert reader.current()

    reader.append(_record(4))
    assert writer.follow() == [_record(4)]
    assert writer.reread() == _read(tmp_path)
    for journal in (writer, reader):
        journal.close()


def test_the_latest_record_is_found_without_those_before_it(tmp_path: Path) -> None:
    writer = _journal(tmp_path, _record(1))
    reader = Journal.open(tmp_path)

    assert reader.latest() == _record(1)
    assert reader.latest() is None
    for number in range(2, 9):
        writer.append(_record(number, number * 3_000))
    assert reader.latest() == _record(8, 24_000)
    assert (reader.mark, reader.count) == (writer.mark, 8)
    assert reader.clean_tail()
    assert reader.latest() is None
    assert reader.reread() == _read(tmp_path)
    for journal in (writer, reader):
        journal.close()


@pytest.mark.parametrize("length", [4096, 1 << 40, (1 << 64) - 1])
@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_length_that_lies_does_not_lead_past_what_is_whole(
    number: int, length: int, tmp_path: Path
) -> None:
    writer = _journal(tmp_path, *map(_record, range(1, 5)))
    _edit(writer.path, number * BLOCK + 40, struct.pack("<Q", length))

    reader = Journal.open(tmp_path)

    assert reader.latest() == (_record(number - 1) if number > 1 else None)
    assert reader.next_sequence == number
    assert not reader.clean_tail()
    for journal in (writer, reader):
        journal.close()


def test_of_a_torn_last_record_the_one_before_it_is_the_latest(tmp_path: Path) -> None:
    writer = _journal(tmp_path, *map(_record, range(1, 4)))
    _edit(writer.path, 3 * BLOCK + HEADER_SIZE + 9, b"torn")

    reader = Journal.open(tmp_path)

    assert reader.latest() == _record(2)
    assert not reader.clean_tail()
    for journal in (writer, reader):
        journal.close()


@pytest.mark.parametrize("more", [0, 1, HEADER_SIZE - 1])
def test_the_latest_record_is_found_where_the_file_ends_soon_behind_it(
    more: int, tmp_path: Path
) -> None:
    writer = _journal(tmp_path, *map(_record, range(1, 4)))
    os.truncate(writer.path, writer.size + more)

    reader = Journal.open(tmp_path)

    assert reader.latest() == _record(3)
    assert reader.mark == writer.mark
    for journal in (writer, reader):
        journal.close()


def test_a_record_that_was_passed_over_is_checked_when_all_are_read(tmp_path: Path) -> None:
    writer = _journal(tmp_path, *map(_record, range(1, 4)))
    reader = Journal.open(tmp_path)
    _edit(writer.path, 2 * BLOCK + HEADER_SIZE + 9, b"lost")

    assert reader.latest() == _record(3)
    with pytest.raises(StateReadError, match="damaged"):
        reader.reread()
    for journal in (writer, reader):
        journal.close()


@pytest.mark.parametrize("numbers", [(1, 3), (2,), (1, 2, 2), (1, 3, 4)])
def test_a_number_that_is_missing_is_damage_on_the_way_to_the_latest(
    numbers: tuple[int, ...], tmp_path: Path
) -> None:
    Journal.start(tmp_path, Standing(), map(_record, numbers), 0).close()
    reader = Journal.open(tmp_path)

    with pytest.raises(StateReadError, match="missing"):
        reader.latest()

    reader.close()


def test_the_latest_record_of_a_file_that_cannot_be_read_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = _journal(tmp_path)
    monkeypatch.setattr(files, "read_at", _eio)

    with pytest.raises(StateReadError) as caught:
        reader.latest()

    assert caught.value.code == "journal-damaged"
    reader.close()


def _eio(*_: object) -> bytes:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_second_append_says_that_the_name_of_the_generation_is_durable(tmp_path: Path) -> None:
    writer = Journal.start(tmp_path, Standing(), [_record(1), _record(2)], 0)
    seen = []
    for number in (3, 4, 5):
        reader = Journal.open(tmp_path)
        reader.latest()
        seen.append(reader.named)
        reader.close()
        writer.scan()
        writer.append(_record(number))
    reader = Journal.open(tmp_path)
    reader.latest()

    # Appended, not begun with, and durable before the next was written: only the flush of the name comes before both.
    assert (seen, reader.named) == ([False, False, True], True)
    reader.close()
    writer.close()


def test_reread_gives_what_was_read_and_appended_so_far(tmp_path: Path) -> None:
    journal = _journal(tmp_path, _record(1), _record(2))
    other = Journal.open(tmp_path)
    other.follow()
    other.append(_record(3))

    assert journal.reread() == [_record(1), _record(2)]
    journal.follow()
    assert journal.reread() == [_record(1), _record(2), _record(3)]
    journal.close()
    other.close()


def test_a_writer_that_comes_while_a_reader_looks_for_hidden_records_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = _journal(tmp_path)
    reader = Journal.open(tmp_path)
    records = [_record(1), _record(2)]
    late = iter(records)
    real = files.read_at

    def overtaken(descriptor: int, length: int, offset: int) -> bytes:
        found = real(descriptor, length, offset)
        for record in late:
            writer.append(record)
        return found

    monkeypatch.setattr(files, "read_at", overtaken)

    assert reader.scan() == records
    assert reader.mark == writer.mark
    for journal in (writer, reader):
        journal.close()


def test_closing_it_twice_closes_nobody_elses_file(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.close()
    with (tmp_path / "theirs").open("wb") as file:  # gets the number that is free now
        journal.close()
        os.fstat(file.fileno())


# -- generations ---------------------------------------------------------------------------------------------------


def test_a_new_generation_holds_its_records_and_takes_the_place_of_the_old_one(
    tmp_path: Path,
) -> None:
    old = _journal(tmp_path, _record(1), _record(2))

    new = Journal.start(tmp_path, Standing({MAIN: _id(1)}, _id(1)), [_record(2)], 1)

    assert generations(tmp_path) == [2]
    assert not old.current()
    assert new.current()
    assert new.scan() == [_record(2)]
    new.append(_record(3))
    assert _read(tmp_path) == [_record(2), _record(3)]
    for journal in (old, new):
        journal.close()


def test_records_of_an_older_generation_are_not_taken_for_new_ones(tmp_path: Path) -> None:
    old = _journal(tmp_path, _record(1), _record(2), _record(3))
    stale = old.path.read_bytes()
    old.close()
    new = Journal.start(tmp_path, Standing(), [_record(1)], 0)

    # The same place, the same sequence number, another salt (O3).
    content = new.path.read_bytes()
    _edit(new.path, 2 * BLOCK, stale[2 * BLOCK : 4 * BLOCK])

    assert content[: 2 * BLOCK] == new.path.read_bytes()[: 2 * BLOCK]
    assert _read(tmp_path) == [_record(1)]
    new.close()


def test_a_generation_that_was_never_published_does_not_count(tmp_path: Path) -> None:
    _journal(tmp_path, _record(1)).close()
    (tmp_path / "journal.new").write_bytes(b"half a generation")

    assert _read(tmp_path) == [_record(1)]
    Journal.start(tmp_path, Standing(), [_record(1)], 0).close()
    assert sorted(os.listdir(tmp_path)) == ["journal.00000002"]


def test_an_old_generation_that_came_back_does_not_count(tmp_path: Path) -> None:
    old = _journal(tmp_path, _record(1), _record(2))
    content = old.path.read_bytes()
    Journal.start(tmp_path, Standing(), [], 2).close()
    old.path.write_bytes(content)  # a power cut undid the unlink

    assert _read(tmp_path) == []
    Journal.start(tmp_path, Standing(), [], 2).close()
    assert generations(tmp_path) == [3]
    old.close()


def test_more_than_eight_digits_of_generations_are_still_in_order(tmp_path: Path) -> None:
    first = _journal(tmp_path, _record(1))
    first.path.rename(tmp_path / "journal.99999999")

    new = Journal.start(tmp_path, Standing(), [_record(1), _record(2)], 0)

    assert generations(tmp_path) == [100_000_000]
    assert _read(tmp_path) == [_record(1), _record(2)]
    assert new.current()
    first.close()
    new.close()


def test_a_generation_that_is_replaced_while_it_is_being_opened_gives_way_to_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _journal(tmp_path, _record(1)).close()
    real = os.open

    def late(path: str, *arguments: int) -> int:
        if os.fspath(path).endswith("journal.00000001"):
            monkeypatch.undo()
            Journal.start(tmp_path, Standing(), [_record(1), _record(2)], 0).close()
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", late)

    assert _read(tmp_path) == [_record(1), _record(2)]


def test_a_generation_that_the_disk_refuses_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _journal(tmp_path, _record(1))

    def refuse(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(StateWriteError):
        Journal.start(tmp_path, Standing(), [], 1)
    monkeypatch.undo()

    assert old.current()
    assert sorted(os.listdir(tmp_path)) == ["journal.00000001"]
    assert _read(tmp_path) == [_record(1)]
    old.close()


# -- torn tails ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 20_000])
def test_a_record_cut_anywhere_is_as_if_it_had_never_been(size: int, tmp_path: Path) -> None:
    journal = _journal(tmp_path, _record(1), _record(2))
    start = journal.size
    journal.append(_record(3, size))
    content = journal.path.read_bytes()
    cuts = [
        start,
        start + 1,
        start + 63,
        start + 64,
        start + 65,
        journal.size - BLOCK,
        start + size,
    ]

    for cut in sorted(set(cuts)):
        for padded in (False, True):
            left = content[:cut] + bytes(len(content) - cut if padded else 0)
            if left.rstrip(b"\0") == content.rstrip(b"\0"):
                continue
            journal.path.write_bytes(left)
            assert _read(tmp_path) == [_record(1), _record(2)], (cut, padded)
    journal.close()


def test_a_record_with_any_bit_flipped_is_as_if_it_had_never_been(tmp_path: Path) -> None:
    journal = _journal(tmp_path, _record(1))
    start = journal.size
    journal.append(_record(2, 300))
    length = struct.unpack_from("<Q", journal.path.read_bytes(), start + 40)[0]
    chance = random.Random(1)
    spots = [*range(64), *(chance.randrange(64, 64 + length) for _ in range(200))]

    for spot in spots:
        content = journal.path.read_bytes()
        flipped = bytes([content[start + spot] ^ (1 << chance.randrange(8))])
        _edit(journal.path, start + spot, flipped)
        assert _read(tmp_path) == [_record(1)], spot
        _edit(journal.path, start + spot, content[start + spot : start + spot + 1])
    assert _read(tmp_path) == [_record(1), _record(2, 300)]
    journal.close()


def test_a_torn_tail_is_not_clean_and_zeros_are(tmp_path: Path) -> None:
    journal = _journal(tmp_path, _record(1))
    assert journal.clean_tail()

    other = Journal.open(tmp_path)
    other.scan()
    other.append(_record(2))
    assert not journal.clean_tail()
    assert other.clean_tail()
    _edit(journal.path, other.size, b"\0" * 63 + b"x")
    assert not other.clean_tail()
    journal.close()
    other.close()


def test_an_append_that_the_disk_refuses_leaves_a_clean_tail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = _journal(tmp_path, _record(1))

    def refuse(descriptor: int, content: bytes, offset: int) -> int:
        write(descriptor, bytes(content)[:100], offset)
        raise OSError(28, "No space left on device")

    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(StateWriteError) as caught:
        journal.append(_record(2))
    monkeypatch.undo()

    assert caught.value.code == "write"
    assert isinstance(caught.value.__cause__, OSError)
    assert journal.clean_tail()
    journal.append(_record(2))
    assert _read(tmp_path) == [_record(1), _record(2)]
    journal.close()


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = _journal(tmp_path)
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, content, at: write(fd, content[:1000], at))

    journal.append(_record(1, 50_000))

    assert _read(tmp_path) == [_record(1, 50_000)]
    journal.close()


# -- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spot", [0, 30, 44, 50, 100, BLOCK + 5])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_bad_record_before_a_durable_one_is_damage(which: int, spot: int, tmp_path: Path) -> None:
    journal = Journal.start(tmp_path, Standing(), (), 0)
    starts = []
    for number in range(1, 5):
        starts.append(journal.size)
        journal.append(_record(number, 2 * BLOCK))
    journal.close()
    at = starts[which] + spot
    byte = journal.path.read_bytes()[at]
    _edit(journal.path, at, bytes([byte ^ 1]))

    journal = Journal.open(tmp_path)
    with pytest.raises(StateReadError) as caught:
        journal.scan()

    assert caught.value.code == "journal-damaged"
    assert caught.value.path == journal.path
    journal.close()


def test_a_bad_note_before_a_record_that_was_never_flushed_is_a_torn_tail(tmp_path: Path) -> None:
    journal = _journal(tmp_path, _record(1))
    start = journal.size
    journal.note(_record(2))
    journal._write(
        _record(3)
    )  # written, and killed before the flush: both may reach the disk in any order
    _edit(journal.path, start + 70, b"\xff\xff")

    assert _read(tmp_path) == [_record(1)]
    journal.close()


def test_a_bad_note_before_a_record_after_the_flush_is_damage(tmp_path: Path) -> None:
    journal = _journal(tmp_path, _record(1))
    start = journal.size
    journal.note(_record(2))
    journal.append(_record(3))
    journal.append(_record(4))
    _edit(journal.path, start + 70, b"\xff\xff")

    with pytest.raises(StateReadError) as caught:
        _read(tmp_path)
    assert caught.value.code == "journal-damaged"
    journal.close()


def test_a_flush_makes_notes_as_durable_as_records(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    start = journal.size
    journal.note(_record(1))
    journal.flush()
    journal.note(_record(2))
    _edit(journal.path, start + 70, b"\xff\xff")

    with pytest.raises(StateReadError):
        _read(tmp_path)
    journal.close()


@pytest.mark.parametrize(
    "content", [b"", b"\0" * GROWTH, b"gsbase01", b"gsbase01" + bytes(5000), b"x" * 10_000]
)
def test_a_bad_first_block_is_damage(content: bytes, tmp_path: Path) -> None:
    journal = _journal(tmp_path, _record(1))
    journal.close()
    journal.path.write_bytes(content)

    with pytest.raises(StateReadError) as caught:
        Journal.open(tmp_path)

    assert caught.value.code == "journal-damaged"


NONSENSE = [b"", b"\0\0\0", b"\xff" * 40, b"\x02\0\0\0{}", b"\x04\0\0\0null", b"\x04\0\0\0{,}}"]


@pytest.mark.parametrize("payload", NONSENSE)
def test_a_whole_record_that_makes_no_sense_is_damage(payload: bytes, tmp_path: Path) -> None:
    journal = _journal(tmp_path, _record(1))
    salt = journal.path.read_bytes()[8:24]
    _edit(journal.path, journal.size, _part(b"gsrec001", salt, 2, payload))
    journal.close()

    with pytest.raises(StateReadError) as caught:
        _read(tmp_path)

    assert caught.value.code == "journal-damaged"
    assert "record 2 makes no sense" in str(caught.value)


@pytest.mark.parametrize("payload", NONSENSE)
def test_a_whole_base_that_makes_no_sense_is_damage(payload: bytes, tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.close()
    journal.path.write_bytes(_part(b"gsbase01", b"salt" * 4, 1, payload))

    with pytest.raises(StateReadError) as caught:
        Journal.open(tmp_path)

    assert caught.value.code == "journal-damaged"


def test_a_record_that_is_not_there_between_two_that_are_is_damage(tmp_path: Path) -> None:
    Journal.start(tmp_path, Standing(), [_record(1), _record(3)], 0).close()

    with pytest.raises(StateReadError) as caught:
        _read(tmp_path)

    assert caught.value.code == "journal-damaged"
    assert "record 2 is missing" in str(caught.value)


def test_a_length_beyond_the_file_is_no_reason_to_read_it_all(tmp_path: Path) -> None:
    journal = _journal(tmp_path, _record(1))
    _edit(
        journal.path, journal.size, b"gsrec001" + journal._salt + struct.pack("<QQQ", 2, 1, 2**62)
    )

    assert _read(tmp_path) == [_record(1)]
    journal.close()


def test_no_journal_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Journal.open(tmp_path)


# -- flushes -------------------------------------------------------------------------------------------------------


def test_an_append_flushes_once_and_a_note_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = _journal(tmp_path)
    flushed: list[int] = []
    flush = files.flush_data
    monkeypatch.setattr(files, "flush_data", lambda fd: (flushed.append(fd), flush(fd)))

    journal.note(_record(1))
    assert flushed == []
    journal.append(_record(2))
    assert len(flushed) == 1
    journal.close()


@pytest.mark.parametrize("call", ["append", "flush"])
def test_a_failed_flush_says_that_the_outcome_is_unknown(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = _journal(tmp_path)

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "flush_data", fail)
    with pytest.raises(StateWriteError) as caught:
        if call == "append":
            journal.append(_record(1))
        else:
            journal.flush()

    assert caught.value.code == "flush-failed"
    journal.close()


# -- what records come to ------------------------------------------------------------------------------------------


def _state(number: int, *replaces: int, own: bool = False) -> StateChange:
    return StateChange(
        _id(number),
        f"temporary {number}",
        Identity(number, 1, 1),
        tuple(Identity(each, 1, 1) for each in replaces),
        content=b"content" if own else None,
    )


def test_nothing_comes_to_nothing() -> None:
    assert merge([]) is None
    assert merge([_record(1), Record(2, aborts=1)]) is None


def test_records_together_have_the_effect_of_the_last_on_any_file_of_the_others() -> None:
    records = [
        Record(1, refs=(RefChange(MAIN, (_id(9),), _id(1)),), state=_state(11, 10)),
        Record(2, (GitObject(_id(5), b"5"),), (RefChange("refs/x", (None,), _id(5)),)),
        Record(3, refs=(RefChange(MAIN, (_id(1),), _id(3)),), state=_state(13, 11)),
    ]

    merged = merge(records)

    assert merged is not None
    assert merged.sequence == 3
    assert merged.objects == (GitObject(_id(5), b"5"),)
    moves = {change.name: change for change in merged.refs}
    assert moves[MAIN].new == _id(3)
    assert set(moves[MAIN].expected) == {None, _id(9), _id(1), _id(3)}
    assert set(moves["refs/x"].expected) == {None, _id(5)}
    assert merged.state is not None
    assert merged.state.blob == _id(13)
    assert {identity.inode for identity in merged.state.replaces} == {10, 11}


def test_a_record_that_was_taken_back_has_no_effect_and_its_file_is_not_expected() -> None:
    records = [
        Record(1, refs=(RefChange(MAIN, (None,), _id(1)),), state=_state(11, 10)),
        Record(2, refs=(RefChange(MAIN, (_id(1),), _id(2)),), state=_state(12, 11)),
        Record(3, aborts=2),
    ]

    merged = merge(records)

    assert merged is not None
    assert [change.new for change in merged.refs] == [_id(1)]
    assert merged.state is not None
    assert merged.state.identity.inode == 11
    assert {identity.inode for identity in merged.state.replaces} == {10}
    assert [record.sequence for record in effective(records)] == [1]


def test_a_first_write_is_only_for_where_there_is_no_file() -> None:
    merged = merge([Record(1, state=_state(11))])
    assert merged is not None
    assert merged.state is not None
    assert merged.state.replaces == ()


BEFORE = Standing({MAIN: _id(1)}, _id(1), Identity(1, 1, 1))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (Record(2), BEFORE),
        (Record(2, aborts=1, state=_state(11)), BEFORE),
        (Record(2, state=_state(11)), Standing({MAIN: _id(1)}, _id(11), _state(11).identity)),
        (Record(2, adopts=_id(4)), Standing({MAIN: _id(1)}, _id(4), Identity(1, 1, 1))),
        (
            Record(2, refs=(RefChange("refs/x", (None,), _id(3)),)),
            Standing({MAIN: _id(1), "refs/x": _id(3)}, _id(1), Identity(1, 1, 1)),
        ),
        (Record(2, refs=(RefChange("refs/tags/y", (None,), _id(3)),)), BEFORE),
    ],
)
def test_a_record_says_where_it_leaves_things(record: Record, expected: Standing) -> None:
    assert BEFORE.after(record, (MAIN, "refs/x")) == expected


def test_merging_merged_records_changes_nothing() -> None:
    chance = random.Random(2)
    for _ in range(100):
        records = []
        for sequence in range(1, chance.randrange(2, 8)):
            aborts = sequence - 1 if sequence > 1 and chance.random() < 0.2 else None
            records.append(Record(sequence, aborts=aborts) if aborts else _record(sequence))
        once = merge(records)
        assert merge([] if once is None else [once]) == once


def test_a_new_generation_is_noticed_even_where_an_old_one_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _journal(tmp_path)
    real = files.remove

    def stays(path: Path) -> bool:
        if Path(path) == old.path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path)

    monkeypatch.setattr(files, "remove", stays)
    for number in range(1, 4):
        Journal.start(tmp_path, Standing(), (), number).close()
        assert not old.current()
    old.close()
