"""Deltas, judged by dulwich and by stock Git: whatever they are made of, and as small as matching lines can make them."""

import contextlib
import hashlib
import json
import struct
import subprocess
import tracemalloc
import zlib
from pathlib import Path

import pytest
from dulwich import pack
from dulwich.object_format import SHA1
from dulwich.pack import pack_object_header
from hypothesis import example, given
from hypothesis import strategies as st
from oracle import GIT, needs_git

from gitstate.repository.delta import apply_delta, make_delta
from gitstate.repository.objects import blob_id
from gitstate.repository.packfile import PackFile

LINES = st.lists(
    st.sampled_from([b"", b"a", b"bb", b'    "status": "success",', b"}", b"x" * 40])
).map(b"\n".join)
PAIRS = st.tuples(st.one_of(LINES, st.binary()), st.one_of(LINES, st.binary()))


def _applied(base: bytes, delta: bytes) -> bytes:
    """What dulwich makes of it, and so do we."""
    target = b"".join(pack.apply_delta(base, delta))
    assert apply_delta(base, delta) == target
    return target


def _document(count: int) -> dict[str, dict[str, object]]:
    return {f"chunk{n:04}": {"status": "success", "took": n * 7919 % 1000} for n in range(count)}


def _encoded(document: object) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"


@given(PAIRS)
@example((b"", b""))
@example((b"a\nb\nc", b"a\nb\nc\n"))
@example((b"1\na\nb}", b"2\na\nb\n}"))
@example((b"a\nb\na\nb\nc", b"c\na\nb\na\nb"))
@example((b"x" * 200_000, b"x" * 199_999 + b"y"))
@example((b"\0" * (2**24 + 5), b"\0" * (2**24 + 3)))
def test_a_delta_makes_the_one_of_the_other(pair: tuple[bytes, bytes]) -> None:
    base, target = pair

    assert _applied(base, make_delta(base, target)) == target


@given(LINES, st.data())
def test_what_was_moved_replaced_or_left_out_comes_back(base: bytes, data: st.DataObject) -> None:
    lines = base.split(b"\n")
    moved = data.draw(st.permutations(lines)) if len(lines) < 50 else lines
    cut = data.draw(st.integers(0, len(lines)))
    target = b"\n".join([*moved[cut:], b"new", *moved[:cut]])

    assert _applied(base, make_delta(base, target)) == target


@given(PAIRS, st.data())
def test_a_damaged_delta_is_refused_or_makes_what_it_makes_for_dulwich(
    pair: tuple[bytes, bytes], data: st.DataObject
) -> None:
    base, target = pair
    delta = bytearray(make_delta(base, target))
    at = data.draw(st.integers(0, len(delta) - 1))
    if data.draw(st.booleans()):
        delta[at] ^= data.draw(st.integers(1, 255))
    else:
        del delta[at:]

    try:
        made = apply_delta(base, bytes(delta))
    except (ValueError, IndexError):
        return
    assert made == b"".join(pack.apply_delta(base, bytes(delta)))


@pytest.mark.parametrize(
    "delta",
    [b"", b"\3", b"\3\3\0", b"\3\2\x90\3", b"\3\4\x90\3", b"\3\3\x91\1\3", b"\3\1\2a", b"\4\1\1a"],
)
def test_a_delta_that_makes_no_sense_is_refused(delta: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        apply_delta(b"abc", delta)


def test_a_delta_that_copies_more_than_it_says_is_refused_before_that_is_in_memory() -> None:
    base = bytes(2**20)
    # Each of its bytes copies 64 KB.
    delta = b"\x80\x80\x40" * 2 + b"\x80" * 2**20

    tracemalloc.start()
    with pytest.raises(ValueError, match="another size"):
        apply_delta(base, delta)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4 * 2**20


def test_a_delta_of_very_many_instructions_takes_no_more_memory_than_others() -> None:
    delta = b"\1" + b"\x80\x80\x10" + b"\x91\0\1" * 2**18

    tracemalloc.start()
    made = apply_delta(b"x", delta)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert made == b"x" * 2**18
    assert peak < 3 * 2**18


def test_one_changed_value_costs_a_few_bytes() -> None:
    document = _document(700)
    base = _encoded(document)
    document["chunk0300"]["status"] = "failed"

    delta = make_delta(base, _encoded(document))

    assert len(base) > 40_000
    assert len(delta) < 40


def test_records_that_come_and_go_all_over_the_document_cost_what_they_add() -> None:
    document = _document(700)
    base = _encoded(document)
    for number in range(0, 700, 70):
        del document[f"chunk{number:04}"]
        document[f"chunk{number + 1:04}"]["took"] = "a while"

    delta = make_delta(base, _encoded(document))

    assert len(delta) < 10 * 60


def test_a_document_without_line_breaks_costs_what_was_added() -> None:
    """One that somebody wrote in a layout of their own."""
    base = json.dumps(_document(500)).encode()

    delta = make_delta(base, base[:-1] + b', "last": {}}')

    assert len(delta) < 40


@needs_git
def test_a_pack_whose_objects_are_longer_when_they_are_compressed_is_read(tmp_path: Path) -> None:
    content = bytes(range(256)) * 20
    deflating = zlib.compressobj(0)
    flushed = [
        deflating.compress(content[at : at + 50]) + deflating.flush(zlib.Z_SYNC_FLUSH)
        for at in range(0, len(content), 50)
    ]
    header = bytes(pack_object_header(3, None, len(content), SHA1))
    path = tmp_path / "one.pack"
    path.write_bytes(_pack([header + b"".join((*flushed, deflating.flush()))]))
    command = [GIT or "git", "index-pack", "--strict", path.name]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    with contextlib.closing(PackFile(path)) as pack:
        (raw,) = pack.objects()
        ((_, held),) = pack.held(pack.index.names)

    assert raw.content == content
    assert held is not None
    assert zlib.decompress(held.compressed) == content


@needs_git
def test_git_reads_what_a_delta_makes(tmp_path: Path) -> None:
    document = _document(700)
    base = _encoded(document)
    document["chunk0300"] = {"status": "failed"}
    target = _encoded(document)
    delta = make_delta(base, target)
    entries = [bytes(pack_object_header(3, None, len(base), SHA1)) + zlib.compress(base)]
    header = pack_object_header(6, len(entries[0]), len(delta), SHA1)
    entries += [bytes(header) + zlib.compress(delta)]
    (tmp_path / "two.pack").write_bytes(_pack(entries))

    def git(*arguments: str) -> bytes:
        command = [GIT or "git", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout

    git("init", "--quiet", "--bare", "repo")
    git("--git-dir=repo", "index-pack", "--strict", "two.pack")
    for suffix in ("pack", "idx"):
        (tmp_path / f"two.{suffix}").rename(tmp_path / f"repo/objects/pack/pack-two.{suffix}")
    assert git("--git-dir=repo", "cat-file", "blob", blob_id(target)) == target


def _pack(entries: list[bytes]) -> bytes:
    body = struct.pack(">4sLL", b"PACK", 2, len(entries)) + b"".join(entries)
    return body + hashlib.sha1(body).digest()
