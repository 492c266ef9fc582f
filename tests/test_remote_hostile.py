"""What somebody else may have put into a remote: none of it is adopted, and none of it fills memory or disk."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import bad_servers
import pytest
from dulwich.pack import write_pack_index
from machines import TIMEOUT, clone, image, in_time, judge_whole, machine, refs, refused, unchanged
from oracle import needs_git
from servers import Bad, Daemon, Folder, Http, Serve, Server

from gitstate import PipelineState, StateRemoteError

pytestmark = [needs_git, pytest.mark.usefixtures("home")]

GOOD = b'{\n  "phase1": {\n    "status": "success"\n  }\n}\n'
FIELDS = (
    "Operation: write\nSerial: {serial}\nTime: 2046-03-01T09:30:00.123456+00:00\n"
    'Changed-Keys: ["phase1"]\nPid: 4711\nHost: worker-3\n'
)


# -- made by plumbing ----------------------------------------------------------------------------------------------


def _blob(server: Server, content: bytes = GOOD) -> str:
    return server.git("hash-object", "-w", "--stdin", stdin=content).strip()


def _tree(server: Server, *entries: tuple[str, str, str]) -> str:
    lines = [
        f"{mode} {({'040000': 'tree', '160000': 'commit'}).get(mode, 'blob')} {each}\t{name}\0"
        for mode, each, name in entries
    ]
    return server.git("mktree", "-z", "--missing", stdin="".join(lines).encode()).strip()


def _commit(
    server: Server,
    *,
    tree: str | None = None,
    content: bytes = GOOD,
    serial: object = 3,
    message: str | None = None,
    parents: tuple[str, ...] = ("main",),
    time: str = "2403509400 +0000",
) -> str:
    """A commit on top of what is there, as the third version, but for what the caller wants otherwise."""
    tree = tree or _tree(server, ("100644", _blob(server, content), "pipeline.json"))
    above = "".join(f"parent {server.git('rev-parse', each).strip()}\n" for each in parents)
    message = message or "write: phase1\n\n" + FIELDS.format(serial=serial)
    who = f"mallory <mallory@example.org> {time}"
    content = (
        f"tree {tree}\n{above}author {who}\ncommitter {who}\nencoding UTF-8\n\n{message}".encode()
    )
    return server.git("hash-object", "-w", "-t", "commit", "--stdin", stdin=content).strip()


def _grow(**what: object) -> Callable[[Server], None]:
    """Moves the branch to a commit with that about it."""

    def grow(server: Server) -> None:
        server.git("update-ref", "refs/heads/main", _commit(server, **what))  # type: ignore[arg-type]

    return grow


def _grow_tree(*entries: tuple[str, str, str]) -> Callable[[Server], None]:
    """Moves the branch to a commit with that tree; an id `state` is a state's, `folder` a folder's with one in it."""

    def grow(server: Server) -> None:
        ids = {"state": _blob(server), "target": _blob(server, b"/etc/passwd")}
        ids["folder"] = _tree(server, ("100644", ids["state"], "pipeline.json"))
        made = _tree(server, *((mode, ids.get(each, each), name) for mode, each, name in entries))
        server.git("update-ref", "refs/heads/main", _commit(server, tree=made))

    return grow


def _name(ref: str, to: str = "main") -> Callable[[Server], None]:
    """Adds a ref."""
    return lambda server: (
        server.git("update-ref", ref, server.git("rev-parse", to).strip()) and None
    )


def _merge(server: Server) -> None:
    other = _commit(server, parents=("main~1",), serial=2)
    merged = _commit(server, parents=("main", other))
    server.git("update-ref", "refs/heads/main", merged)


def _no_version(server: Server) -> None:
    """The newest is as it should be, what is below it is not."""
    server.git("update-ref", "refs/heads/main", _commit(server, message="what?\n"))
    _grow(serial=4)(server)


def _audit(server: Server) -> None:
    """A line of the audit trail that gitstate cannot have written."""
    commit = _commit(server, parents=(), message="what?\n")
    server.git("update-ref", "refs/audit/failures", commit)


def _list(ref: str, name: str, rows: bytes) -> Callable[[Server], None]:
    """Files of JSON Lines, as gitstate keeps them, with rows that it could not use."""

    def keep(server: Server) -> None:
        tree = _tree(server, ("100644", _blob(server, rows), name))
        message = "import: what was taken in\n\n" + FIELDS.format(serial=2) + f"Kept-As: {ref}\n"
        server.git("update-ref", ref, _commit(server, tree=tree, message=message, parents=()))

    return keep


TOO_DEEP = b'{"a":' * 5000 + b"1" + b"}" * 5000

HOSTILE: dict[str, Callable[[Server], None]] = {
    "two files": _grow_tree(("100644", "state", "other"), ("100644", "state", "pipeline.json")),
    "no file": _grow_tree(),
    "a file of another name": _grow_tree(("100644", "state", "other.json")),
    "a symlink": _grow_tree(("120000", "target", "pipeline.json")),
    "a folder": _grow_tree(("040000", "folder", "pipeline.json")),
    "another repository": _grow_tree(("160000", "1" * 40, "pipeline.json")),
    "a file below": _grow_tree(("040000", "folder", ".git"), ("100644", "state", "pipeline.json")),
    "not JSON": _grow(content=b'{"phase1": '),
    "not UTF-8": _grow(content=b'{"phase1": "\xff"}'),
    "empty": _grow(content=b""),
    "duplicate keys": _grow(content=b'{"phase1": {}, "phase1": {}}\n'),
    "not an object": _grow(content=b"[1]\n"),
    "too deep": _grow(content=TOO_DEEP),
    "no trailers": _grow(message="write: phase1\n"),
    "half of the trailers": _grow(message="write: phase1\n\nOperation: write\nSerial: 3\n"),
    "a number that jumps": _grow(serial=5),
    "a number again": _grow(serial=2),
    "a number below 1": _grow(serial=-3),
    "no number": _grow(serial="three"),
    "a number without end": _grow(serial="9" * 5000),
    "two parents": _merge,
    "no version below": _no_version,
    "a branch that is a blob": lambda server: _raw_ref(
        server, "refs/heads/main", "main:pipeline.json"
    ),
    "a name for a blob": _name("refs/backups/blob", "main:pipeline.json"),
    "a name for a tree": _name("refs/backups/tree", "main^{tree}"),
    "a name that reads as HEAD": _name("refs/backups/HEAD"),
    "a name that reads as a hash": _name("refs/backups/abcdef"),
    "a name that reads as a number": _name("refs/backups/41"),
    "an audit trail that is none": _audit,
    "a list of imports without fields": _list(
        "refs/audit/import", "backups.000000001.jsonl", b"{}\n"
    ),
    "a list of imports with wrong times": _list(
        "refs/audit/import",
        "lines.0001.000000001.jsonl",
        b'{"serial": 1, "imported": "a", "timestamp": "yesterday"}\n',
    ),
    "an audit trail that is a blob": _name("refs/audit/failures", "main:pipeline.json"),
}


def _raw_ref(server: Server, ref: str, to: str) -> None:
    (server.repository / ref).write_text(server.git("rev-parse", to))


def _stage(server: Server, tmp_path: Path) -> PipelineState:
    """A server with two versions, and a state that has them."""
    state = machine(tmp_path / "first", server, versions=2)
    state.push()
    return state


SERVED = ("two files", "a symlink", "not JSON", "a number that jumps", "a name that reads as HEAD")
"""Those that `git daemon` gives, too; the others come from a folder alone."""


@pytest.mark.parametrize(
    ("what", "kind"), [*((what, Folder) for what in HOSTILE), *((what, Daemon) for what in SERVED)]
)
def test_what_is_no_history_of_a_state_is_not_adopted(
    what: str, kind: type[Server], serve: Serve, tmp_path: Path
) -> None:
    server = serve(kind)
    state = _stage(server, tmp_path)

    HOSTILE[what](server)

    with unchanged(state, server=server), refused("remote-invalid") as info:
        state.pull()
    assert info.value.path is None or info.value.path.exists()
    with refused("remote-invalid"):
        clone(tmp_path / "second", server)
    assert not (tmp_path / "second" / "pipeline.json").exists()
    assert not (tmp_path / "second" / ".pipeline").exists()
    judge_whole(state)


def test_what_the_hostile_commits_are_made_by_makes_good_ones_too(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(Folder)
    state = _stage(server, tmp_path)

    _grow()(server)
    _name("refs/backups/good")(server)
    state.pull()

    assert state.path.read_bytes() == GOOD
    assert [each.serial for each in state.log()] == [3, 2, 1]
    assert "refs/backups/good" in refs(state)
    judge_whole(state)


# -- names that git would not make ---------------------------------------------------------------------------------

NAMES = [
    "refs/backups/..",
    "refs/backups/../../config",
    "refs/backups/a\x01b",
    "refs/backups/a\x7fb",
    "refs/backups/a b",
    "refs/backups/a.lock",
    "refs/backups/.a",
    "refs/backups/a//b",
    "refs/backups/" + "n" * 5000,
    "refs/backups/\udcff",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:40]))
def test_a_server_that_tells_a_bad_name_is_not_believed(
    name: str, serve: Serve, tmp_path: Path
) -> None:
    state = _stage(serve(Folder), tmp_path)
    head = next(state.log()).id
    lines = [f"{head} {name}\0ofs-delta", f"{head} refs/heads/main"]
    told = [bad_servers.packet(line.encode(errors="surrogateescape") + b"\n") for line in lines]
    (tmp_path / "told").write_bytes(b"".join(told) + b"0000")
    server = serve(Bad, "says", f"{tmp_path / 'told'}")
    state.remotes.add("bad", server.url, timeout=TIMEOUT)
    files = set(tmp_path.rglob("*"))

    with unchanged(state), in_time(), refused("remote-invalid", "remote-protocol"):
        state.pull("bad")

    new = [file for file in tmp_path.rglob("*") if file not in files]
    # When it was asked last, and what came of that, is noted.
    assert {file.parent.name for file in new} <= {".pipeline", "contacts"}
    judge_whole(state)


@pytest.mark.parametrize("kind", [Folder, Daemon])
@pytest.mark.parametrize("name", NAMES[:6], ids=ascii)
def test_a_bad_name_in_packed_refs_does_not_come_here(
    name: str, kind: type[Server], serve: Serve, tmp_path: Path
) -> None:
    server = serve(kind)
    state = _stage(server, tmp_path)
    _grow()(server)
    good = refs(state)
    server.git("pack-refs", "--all")
    with (server.repository / "packed-refs").open("a") as file:
        file.write(f"{server.git('rev-parse', 'main').strip()} {name}\n")
    before = image(state)

    try:  # of some of them stock git says nothing, and the rest may come; of others it dies
        state.pull()
    except StateRemoteError:
        assert image(state) == before

    assert set(refs(state)) == set(good)
    judge_whole(state)


# -- what is too large ---------------------------------------------------------------------------------------------

CLONING = """
import json, resource, sys
from gitstate import PipelineState, StateRemoteError
try:
    PipelineState.clone(sys.argv[1], sys.argv[2], remote_timeout=float(sys.argv[3]))
    code = "cloned"
except StateRemoteError as error:
    code = error.code
peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps([code, max(peaks)]))
"""
MOST = 1536 * 1024
"""KB of memory that a client may take: far more than it needs, far less than the bomb would fill."""


def _cloned(url: str, folder: Path) -> tuple[str, int]:
    """How a clone ends in a process of its own, and the most memory that this took."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", CLONING, url, f"{folder / 'pipeline.json'}", "20"],
        stdout=subprocess.PIPE,
        check=True,
    )
    code, peak = json.loads(done.stdout)
    return code, peak


def _judge_nothing_came(folder: Path) -> None:
    assert not (folder / "pipeline.json").exists()
    assert not (folder / ".pipeline").exists()
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 100_000


@pytest.mark.parametrize(("kind", "scheme"), [("bomb", "git"), ("web_bomb", "http")])
def test_deltas_that_unpack_to_gigabytes_are_refused(
    kind: str, scheme: str, serve: Serve, tmp_path: Path
) -> None:
    server = serve(Bad, kind, scheme=scheme)

    with in_time(20):
        code, peak = _cloned(server.url, tmp_path / "clone")

    assert code == "remote-invalid"
    assert peak < MOST
    _judge_nothing_came(tmp_path / "clone")


@pytest.mark.parametrize("kind", [Folder, Daemon, Http])
def test_a_stream_that_unpacks_to_gigabytes_is_refused(
    kind: type[Server], serve: Serve, tmp_path: Path
) -> None:
    server = serve(kind)
    tip = _plant_bomb(server)

    with in_time(20):
        code, peak = _cloned(server.url, tmp_path / "clone")

    assert server.refs() == {"refs/heads/main": tip}
    assert code == "remote-invalid"
    assert peak < MOST
    _judge_nothing_came(tmp_path / "clone")


def _plant_bomb(server: Server) -> str:
    """Puts a pack with a state of 4 GB, deflated, into a repository; its commit, where the branch is now."""
    tip, named = bad_servers.stream_bomb()
    content = bad_servers.pack([each for _, each in named])
    entries, at = [], 12
    for name, each in named:
        entries.append((bytes.fromhex(name), at, bad_servers.zlib.crc32(each)))
        at += len(each)
    packs = server.repository / "objects" / "pack"
    (packs / f"pack-{'b' * 40}.pack").write_bytes(content)
    with (packs / f"pack-{'b' * 40}.idx").open("wb") as file:
        write_pack_index(file, sorted(entries), hashlib.sha1(content[:-20]).digest(), version=2)
    (server.repository / "refs/heads/main").write_text(f"{tip}\n")
    return tip


def test_stock_git_takes_the_bomb_for_a_good_state(serve: Serve) -> None:
    server = serve(Folder)
    tip = _plant_bomb(server)

    size = server.git("cat-file", "-s", f"{tip}:pipeline.json")
    reached = server.git("rev-list", "--objects", "main").split()

    assert int(size) == bad_servers.HUGE
    assert bad_servers.HUGE_BLOB in reached
