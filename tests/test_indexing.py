"""Indexing: what a server has sent is read as stock Git reads it, or refused, and never takes more than it may."""

import hashlib
import random
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from dulwich.object_format import SHA1
from dulwich.pack import pack_object_header
from oracle import GIT, Tally, needs_git

from gitstate import PipelineState
from gitstate.repository.delta import make_delta
from gitstate.repository.indexing import Limits, index_pack
from gitstate.repository.objects import Raw, blob_id

LIMITS = Limits(objects=10_000, object_size=2**20, total_size=2**26, depth=50)
BLOB, TREE, TAG, OFS, REF = 3, 2, 4, 6, 7


def name_of(content: bytes) -> bytes:
    return bytes.fromhex(blob_id(content))


def entry(kind: int, content: bytes, base: object = None, size: int | None = None) -> bytes:
    header = pack_object_header(kind, base, len(content) if size is None else size, SHA1)
    return bytes(header) + zlib.compress(content)


def sizes(*numbers: int) -> bytes:
    """Sizes as a delta begins with them."""
    made = bytearray()
    for number in numbers:
        groups = max(1, -(-number.bit_length() // 7))
        made += bytes(number >> 7 * group & 0x7F | 0x80 for group in range(groups - 1))
        made.append(number >> 7 * (groups - 1))
    return bytes(made)


def sealed(body: bytes) -> bytes:
    return body + hashlib.sha1(body).digest()


def pack_of(*entries: bytes, count: int | None = None) -> bytes:
    count = len(entries) if count is None else count
    return sealed(struct.pack(">4sLL", b"PACK", 2, count) + b"".join(entries))


def indexed(folder: Path, content: bytes, limits: Limits = LIMITS) -> dict[str, Raw]:
    """What is visited, each once."""
    path = folder / "some.pack"
    path.write_bytes(content)
    path.with_suffix(".idx").unlink(missing_ok=True)
    found: list[Raw] = []
    try:
        index_pack(path, limits, found.append)
    except ValueError:
        assert not path.with_suffix(".idx").exists()
        raise
    assert len({raw.id for raw in found}) == len(found)
    return {raw.id: raw for raw in found}


def refused(folder: Path, content: bytes, why: str, limits: Limits = LIMITS) -> None:
    with pytest.raises(ValueError, match=why):
        indexed(folder, content, limits)


def index_of_git(folder: Path, content: bytes) -> bytes | None:
    """The index that Git makes, None where it refuses."""
    (folder / "git.pack").write_bytes(content)
    command = [GIT or "git", "index-pack", "-o", "git.idx", "git.pack"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    made = folder / "git.idx"
    index = made.read_bytes() if done.returncode == 0 else None
    for path in folder.glob("git.*"):
        path.unlink()
    return index


@pytest.fixture(params=["ofs", "ref", "gitstate"])
def history(request: pytest.FixtureRequest, tmp_path: Path, git) -> bytes:
    """A pack of forty versions, by Git with deltas of either kind, or as a checkpoint makes it."""
    folder = tmp_path / "history"
    folder.mkdir()
    with PipelineState(folder / "pipeline.json") as state:
        for number in range(40):
            with state.transaction(validate=False) as txn:
                txn.data[f"chunk{number}"] = {"status": "success", "took": number * 7919 % 1000}
                txn.data["last"] = number
        repo = state.git_dir
    if request.param == "gitstate":
        (path,) = (repo / "objects/pack").glob("*.pack")
        return path.read_bytes()
    objects = git("--git-dir", repo, "rev-list", "--objects", "--all")
    options = ["--delta-base-offset"] if request.param == "ofs" else []
    names = git(
        "--git-dir", repo, "pack-objects", *options, "-q", folder / "p", stdin=objects.encode()
    )
    return (folder / f"p-{names.strip()}.pack").read_bytes()


# -- what is whole ---------------------------------------------------------------------------------------------------


@needs_git
def test_the_index_is_the_one_that_git_makes_and_all_objects_are_visited(history, tmp_path, git):
    found = indexed(tmp_path, history)

    assert (tmp_path / "some.idx").read_bytes() == index_of_git(tmp_path, history)
    rows = map(str.split, git("verify-pack", "-v", tmp_path / "some.idx").splitlines())
    theirs = {row[0]: row[1] for row in rows if len(row) >= 5 and len(row[0]) == 40}
    assert {made_id: raw.kind.decode() for made_id, raw in found.items()} == theirs
    for raw in found.values():
        whole = b"%s %d\0%s" % (raw.kind, len(raw.content), raw.content)
        assert hashlib.sha1(whole).hexdigest() == raw.id


def test_an_empty_pack_has_an_empty_index(tmp_path):
    assert indexed(tmp_path, pack_of()) == {}
    assert (tmp_path / "some.idx").exists()


def test_objects_of_every_type_and_empty_ones_are_read(tmp_path):
    contents = [(BLOB, b""), (TREE, b""), (TAG, b"object"), (1, b"tree"), (BLOB, b"x")]

    found = indexed(tmp_path, pack_of(*(entry(*each) for each in contents)))

    assert {(raw.kind, raw.content) for raw in found.values()} == {
        (b"blob", b""),
        (b"tree", b""),
        (b"tag", b"object"),
        (b"commit", b"tree"),
        (b"blob", b"x"),
    }


@needs_git
def test_the_base_of_a_delta_may_stand_behind_it_and_be_one_itself(tmp_path):
    first, second, third = b"a" * 500, b"a" * 400 + b"b", b"c" + b"a" * 400 + b"b"
    content = pack_of(
        entry(REF, make_delta(second, third), name_of(second)),
        entry(REF, make_delta(first, second), name_of(first)),
        entry(BLOB, first),
    )

    found = indexed(tmp_path, content)

    assert set(found) == {blob_id(each) for each in (first, second, third)}
    assert (tmp_path / "some.idx").read_bytes() == index_of_git(tmp_path, content)


def test_a_large_object_that_does_not_compress_is_read_piece_by_piece(tmp_path):
    large = random.Random(1).randbytes(700_000)

    found = indexed(tmp_path, pack_of(entry(BLOB, b"before"), entry(BLOB, large)))

    assert found[blob_id(large)].content == large


def test_an_object_that_is_longer_when_it_is_compressed_is_read(tmp_path):
    content = bytes(range(256)) * 20
    deflating = zlib.compressobj(0)
    pieces = [
        deflating.compress(content[at : at + 50]) + deflating.flush(zlib.Z_SYNC_FLUSH)
        for at in range(0, len(content), 50)
    ]
    header = bytes(pack_object_header(BLOB, None, len(content), SHA1))

    found = indexed(tmp_path, pack_of(header + b"".join((*pieces, deflating.flush()))))

    assert set(found) == {blob_id(content)}


def test_a_pack_at_its_limits_is_read(tmp_path):
    base, made = b"x" * 100, b"x" * 99 + b"y"
    delta = make_delta(base, made)
    content = pack_of(entry(BLOB, base), entry(REF, delta, name_of(base)))

    assert len(indexed(tmp_path, content, Limits(2, 100, 200 + len(delta), 1))) == 2


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(1, 100, 1000, 1), "2 objects"),
        (Limits(2, 99, 1000, 1), "100 bytes"),
        (Limits(2, 100, 200, 1), "more than 200 bytes"),
        (Limits(2, 100, 1000, 0), "longer than 0"),
    ],
)
def test_what_is_beyond_a_limit_is_refused(tmp_path, limits, why):
    base, made = b"x" * 100, b"x" * 99 + b"y"

    content = pack_of(entry(BLOB, base), entry(REF, make_delta(base, made), name_of(base)))

    refused(tmp_path, content, why, limits)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PACK",
        b"PACK\0\0\0\2",
        sealed(b"PACK\0\0\0\4\0\0\0\0"),
        sealed(b"KCAP\0\0\0\2\0\0\0\0"),
    ],
)
def test_what_is_no_pack_is_refused(tmp_path, content):
    refused(tmp_path, content, "no pack")


def test_a_wrong_checksum_is_refused(tmp_path):
    content = bytearray(pack_of(entry(BLOB, b"x")))
    content[-1] ^= 1

    refused(tmp_path, bytes(content), "checksum")


def test_more_or_fewer_objects_than_it_says_are_refused(tmp_path):
    refused(tmp_path, pack_of(entry(BLOB, b"x"), count=2), "fewer objects")
    refused(tmp_path, pack_of(entry(BLOB, b"x"), entry(BLOB, b"y"), count=1), "more bytes")
    refused(tmp_path, pack_of(entry(BLOB, b"x"), b"rubbish", count=1), "more bytes")


def test_an_object_that_is_there_twice_is_refused(tmp_path):
    refused(tmp_path, pack_of(entry(BLOB, b"x"), entry(BLOB, b"x")), "twice")


def test_an_object_that_a_delta_makes_once_more_is_refused(tmp_path):
    base = b"x" * 100
    again = make_delta(base, base)

    refused(tmp_path, pack_of(entry(BLOB, base), entry(REF, again, name_of(base))), "twice")
    whole = entry(BLOB, base)
    refused(tmp_path, pack_of(whole, entry(OFS, again, len(whole))), "twice")


def test_a_delta_against_what_is_not_there_is_refused(tmp_path):
    delta = make_delta(b"somewhere else", b"here")

    refused(tmp_path, pack_of(entry(REF, delta, name_of(b"somewhere else"))), "not in it")
    for distance in (1, 5, 13, 2**40):
        content = pack_of(entry(BLOB, b"x"), entry(OFS, delta, distance))
        refused(tmp_path, content, "no object of it")


def test_deltas_in_a_circle_are_refused(tmp_path):
    one, other = b"x" * 100, b"y" * 100

    content = pack_of(
        entry(BLOB, b"beside"),
        entry(REF, make_delta(other, one), name_of(other)),
        entry(REF, make_delta(one, other), name_of(one)),
    )

    refused(tmp_path, content, "not in it")


@pytest.mark.parametrize("kind", [0, 5])
def test_a_type_that_git_has_not_is_refused(tmp_path, kind):
    refused(tmp_path, pack_of(bytes([kind << 4 | 1]) + zlib.compress(b"x")), "type")


@pytest.mark.parametrize("size", [0, 1, 4, 6, 1000])
def test_an_object_of_another_size_than_it_says_is_refused(tmp_path, size):
    refused(tmp_path, pack_of(entry(BLOB, b"12345", size=size)), "another size")


@pytest.mark.parametrize(
    "delta",
    [
        b"",
        b"\3",
        sizes(3, 2) + b"\x90\3",
        sizes(3, 4) + b"\x90\3",
        sizes(3, 3) + b"\x91\1\3",
        sizes(3, 1) + b"\2a",
        sizes(4, 1) + b"\1a",
        sizes(3, 3) + b"\0",
        sizes(3, 3) + b"\x91",
        b"\xff" * 30,
    ],
)
def test_a_delta_that_makes_no_sense_is_refused(tmp_path, delta):
    content = pack_of(entry(BLOB, b"abc"), entry(REF, delta, name_of(b"abc")))

    refused(tmp_path, content, "delta|damaged|more than")


def test_a_chain_that_is_too_long_is_refused_however_it_is_named(tmp_path):
    contents = [b"x" * 50 + str(number).encode() for number in range(12)]
    for kind in (OFS, REF):
        entries = [entry(BLOB, contents[0])]
        for base, made in pairwise(contents):
            against = len(entries[-1]) if kind == OFS else name_of(base)
            entries.append(entry(kind, make_delta(base, made), against))

        assert len(indexed(tmp_path, pack_of(*entries), replace(LIMITS, depth=11))) == 12
        refused(tmp_path, pack_of(*entries), "longer than 10", replace(LIMITS, depth=10))


# -- chance ----------------------------------------------------------------------------------------------------------


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with a bit flipped, a part cut out, doubled, or moved."""
    at = chance.randrange(len(content))
    length = chance.choice([1, 2, 20, 200, len(content)])
    match chance.randrange(4):
        case 0:
            flipped = content[at] ^ 1 << chance.randrange(8)
            return content[:at] + bytes([flipped]) + content[at + 1 :]
        case 1:
            return content[:at] + content[at + length :]
        case 2:
            return content[:at] + content[at : at + length] + content[at:]
        case _:
            to = chance.randrange(len(content))
            return content[:to] + content[at : at + length] + content[to + length :]


@needs_git
def test_a_damaged_pack_is_refused_or_gives_the_same(
    history, tmp_path, scale, seed, tally: Tally
) -> None:
    chance = random.Random(seed)
    whole = indexed(tmp_path, history)
    count = scale(1000, 100_000)
    for _ in range(count):
        damaged = mutated(history, chance)
        try:
            found = indexed(tmp_path, damaged)
        except ValueError:
            assert damaged != history
        else:
            assert found == whole
    tally("damaged packs to be indexed", count)


@needs_git
def test_a_forged_pack_is_refused_where_git_does_and_else_gives_what_git_reads(
    history, tmp_path, scale, seed, tally: Tally
) -> None:
    """Its checksum is made anew, so that what is inside is looked at."""
    chance = random.Random(seed)
    count = scale(500, 50_000)
    for _ in range(count):
        forged = sealed(mutated(history[:-20], chance))
        theirs = index_of_git(tmp_path, forged)
        try:
            indexed(tmp_path, forged)
        except ValueError as refusal:
            # Git takes an object that is there twice.
            why = str(refusal)
            assert theirs is None or "twice" in why
        else:
            assert theirs == (tmp_path / "some.idx").read_bytes()
    tally("forged packs to be indexed", count)


# -- bombs -----------------------------------------------------------------------------------------------------------

MEGABYTE = 2**20

CHILD = """
import resource, sys
from pathlib import Path
from gitstate.repository.indexing import Limits, index_pack
index_pack(Path(sys.argv[1]), Limits(10, 10, 10, 10), id)
Path(sys.argv[1]).with_suffix(".idx").unlink()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
most = used + int(sys.argv[3]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
seen = []
try:
    index_pack(Path(sys.argv[2]), Limits(*map(int, sys.argv[4:])), lambda raw: seen.append(raw.id))
    print(len(set(seen)))
except ValueError as error:
    print(error)
"""


def in_little_memory(folder: Path, content: bytes, megabytes: int, limits: Limits) -> str:
    """How many objects were visited, or why the pack was refused, by a process that has no more than that."""
    small, path = folder / "small.pack", folder / "bomb.pack"
    small.write_bytes(pack_of(entry(BLOB, b"x")))
    path.write_bytes(content)
    numbers = (megabytes, limits.objects, limits.object_size, limits.total_size, limits.depth)
    command = [sys.executable, "-c", CHILD, small, path, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells, and keeps to it")
BOMBS = Limits(100_000, MEGABYTE, 2**36, 4000)


@linux
def test_what_unpacks_to_far_more_than_it_says_is_refused_at_once(tmp_path):
    for size in (10, MEGABYTE):
        bomb = pack_of(entry(BLOB, bytes(500 * MEGABYTE), size=size))

        assert "another size" in in_little_memory(tmp_path, bomb, 8, BOMBS)


@linux
def test_what_says_that_it_is_too_large_is_refused_unread(tmp_path):
    bomb = pack_of(entry(BLOB, bytes(500 * MEGABYTE)))
    assert "more than" in in_little_memory(tmp_path, bomb, 8, BOMBS)
    for size in (2**40, 2**63, 2**70):
        bomb = pack_of(entry(BLOB, b"x", size=size))
        assert "more than" in in_little_memory(tmp_path, bomb, 8, BOMBS)
        bomb = pack_of(entry(BLOB, b"x"), entry(REF, sizes(1, size), name_of(b"x")))
        assert not in_little_memory(tmp_path, bomb, 8, BOMBS).isdigit()


@linux
def test_a_delta_that_copies_more_than_it_says_is_refused_at_once(tmp_path):
    base = bytes(MEGABYTE)
    # Each of its bytes copies 64 KB.
    delta = sizes(len(base), MEGABYTE) + b"\x80" * (MEGABYTE - 10)

    bomb = pack_of(entry(BLOB, base), entry(REF, delta, name_of(base)))

    assert "another size" in in_little_memory(tmp_path, bomb, 12, BOMBS)


@linux
def test_a_delta_of_very_many_instructions_takes_no_more_memory_than_others(tmp_path):
    base = b"x" * 1000
    delta = sizes(len(base), MEGABYTE // 2 - 10) + b"\1y" * (MEGABYTE // 2 - 10)

    bomb = pack_of(entry(BLOB, base), entry(REF, delta, name_of(base)))

    assert in_little_memory(tmp_path, bomb, 12, BOMBS) == "2"


def children_of(base: bytes, count: int) -> list[bytes]:
    """Deltas that each change a few bytes of the same base."""
    heads = (b"%08d" % number for number in range(count))
    copied = b"\xf1\x08" + (len(base) - 8).to_bytes(3, "little")
    return [sizes(len(base), len(base)) + b"\x08" + head + copied for head in heads]


@linux
@pytest.mark.parametrize("deeper", [False, True])
def test_of_a_base_with_thousands_of_children_few_contents_are_in_memory(tmp_path, deeper):
    base = bytes(MEGABYTE)
    deltas = children_of(base, 1000)
    entries = [entry(BLOB, base), *(entry(REF, each, name_of(base)) for each in deltas)]
    if deeper:  # each of them is a base, too
        for number, each in enumerate(deltas):
            child = b"%08d" % number + base[8:]
            instructions = each.replace(b"%08d" % number, b"%07dx" % number)
            entries.append(entry(REF, instructions, name_of(child)))

    found = in_little_memory(tmp_path, pack_of(*entries), 12, BOMBS)

    assert found == str(len(entries))


def ladder(size: int, rungs: int, kind: int) -> list[bytes]:
    """A chain of deltas, each against the one before, and beside each another one with one more against that."""
    contents = [bytes(size)]
    entries, places = [entry(BLOB, contents[0])], [0]
    named = {0: contents[0]}

    def add(base: int, head: bytes) -> int:
        made = head + bytes(size - 8)
        delta = sizes(size, size) + b"\x08" + head + b"\xf1\x08" + (size - 8).to_bytes(3, "little")
        at = sum(map(len, entries))
        against = at - places[base] if kind == OFS else name_of(named[base])
        entries.append(entry(kind, delta, against))
        places.append(at)
        named[len(entries) - 1] = made
        return len(entries) - 1

    base = 0
    for number in range(rungs):
        beside = add(base, b"b%07d" % number)
        for more in range(3):
            beside = add(beside, b"%d%07d" % (more, number))
        base = add(base, b"n%07d" % number)
    return entries


@linux
@pytest.mark.parametrize("kind", [OFS, REF])
def test_of_a_deep_tree_of_deltas_few_contents_are_in_memory(tmp_path, kind):
    entries = ladder(MEGABYTE, 40, kind)

    assert in_little_memory(tmp_path, pack_of(*entries), 12, BOMBS) == str(len(entries))


def test_what_was_forgotten_is_made_again(tmp_path):
    entries = ladder(1000, 40, REF)

    found = indexed(tmp_path, pack_of(*entries), replace(LIMITS, object_size=1000))

    assert len(found) == len(entries)


def test_what_must_be_made_again_too_often_is_refused(tmp_path):
    entries = ladder(1000, 40, REF)
    limits = replace(LIMITS, object_size=1000, total_size=len(entries) * 1030)

    refused(tmp_path, pack_of(*entries), "too long", limits)
