"""Inspection: a history of gitstate's passes, and of what anybody else could send nothing does."""

import json
import random
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from oracle import GIT, leave_old_layout, needs_git

from gitstate import PipelineState, codec
from gitstate.draft import ARCHIVE, FAILURES, IMPORTED, UNVERSIONED
from gitstate.repository import make_blob, make_commit, make_tree
from gitstate.repository.indexing import Limits, index_pack
from gitstate.repository.objects import Raw, object_id, unpack_loose
from gitstate.repository.shallow import Shallow
from gitstate.sync.fetched import History
from gitstate.sync.inspection import Inspection
from gitstate.trailers import Note

MAIN = "refs/heads/main"
WHO = "Jane <jane@host>"
START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
LIMITS = Limits(100_000, 2**24, 2**32, 50)
FILE = b"pipeline.json"


class Objects(dict[str, Raw]):
    """Objects that a repository has, by their ids."""

    def keep(self, kind: bytes, content: bytes) -> str:
        made_id = object_id(kind, content)
        self[made_id] = Raw(made_id, kind, content)
        return made_id

    def _make(self, made) -> str:
        self[made.id] = unpack_loose(made)
        return made.id

    def blob(self, content: bytes) -> str:
        return self._make(make_blob(content))

    def tree(self, **files: bytes) -> str:
        blobs = {name.replace("_", ".").encode(): self.blob(each) for name, each in files.items()}
        return self._make(make_tree(blobs))

    def commit(
        self, tree: str, *parents: str, serial: int, minutes: float = 0, **extra: str
    ) -> str:
        moment = START + timedelta(minutes=minutes)
        note = Note("transaction", serial, moment, 4711, "host", ("a",), "", extra)
        return self._make(make_commit(tree, parents, WHO, note))

    def version(
        self, serial: int, *parents: str, content: bytes | None = None, minutes: float | None = None
    ) -> str:
        content = codec.encode({"number": serial}) if content is None else content
        tree = self.tree(pipeline_json=content)
        return self.commit(
            tree, *parents, serial=serial, minutes=serial if minutes is None else minutes
        )

    def versions(self, count: int) -> list[str]:
        made: list[str] = []
        for serial in range(1, count + 1):
            made.append(self.version(serial, *made[-1:]))
        return made

    def event(self, *parents: str, serial: int = 3) -> str:
        return self.commit(self.tree(), *parents, serial=serial, Reason="exception", Error="E: e")


@pytest.fixture
def remote() -> Objects:
    """What is sent."""
    return Objects()


def judged(
    sent: Objects,
    refs: dict[str, str],
    here: Objects | None = None,
    boundary: tuple[str, ...] = (),
    **options: object,
) -> History:
    here = Objects() if here is None else here
    inspection = Inspection(FILE, **{"max_state": 10_000, **options})
    for raw in sent.values():
        inspection.visit(raw)
    return inspection.judge(refs, boundary, here.__contains__, here.__getitem__)


def refused(why: str, sent: Objects, refs: dict[str, str], *more: object, **options: object):
    with pytest.raises(ValueError, match=why):
        judged(sent, refs, *more, **options)


# -- what passes -----------------------------------------------------------------------------------------------------


def test_a_remote_without_refs_has_no_history(remote):
    history = judged(remote, {})

    assert history == History(None, {}, (), 0, None, None, (), None, None)


def test_a_branch_is_followed_to_its_first_version(remote):
    versions = remote.versions(5)

    history = judged(remote, {MAIN: versions[-1], "HEAD": versions[-1], "refs/heads/wip": "0" * 40})

    assert history.head == versions[-1]
    assert history.refs == {MAIN: versions[-1]}
    assert history.ignored == ("HEAD", "refs/heads/wip")
    assert (history.versions, history.joins, history.ends) == (5, None, ())
    assert history.oldest == (versions[0], 1, ())
    assert history.blob is not None
    assert json.loads(remote[history.blob].content) == {"number": 5}


def test_a_branch_that_goes_on_where_ours_ends_joins_it(remote):
    here = Objects()
    versions = here.versions(3)
    versions.append(remote.version(4, versions[-1]))
    versions.append(remote.version(5, versions[-1]))

    history = judged(remote, {MAIN: versions[-1]}, here)

    assert (history.versions, history.joins) == (2, versions[2])
    assert history.oldest == (versions[3], 4, (versions[2],))


def test_a_branch_of_which_nothing_is_new_joins_at_its_head(remote):
    here = Objects()
    versions = here.versions(3)

    history = judged(remote, {MAIN: versions[-1]}, here)

    assert (history.versions, history.joins) == (0, versions[2])
    assert history.oldest == (versions[2], 3, (versions[1],))
    assert history.blob in here


def test_what_was_sent_though_it_is_here_is_no_new_version(remote):
    here = Objects()
    versions = remote.versions(4)
    here.versions(3)

    history = judged(remote, {MAIN: versions[-1]}, here)

    assert (history.versions, history.joins) == (1, versions[2])


def test_a_branch_ends_where_the_remote_says_so(remote):
    first, second, *rest = remote.versions(4)
    for gone in (first, remote[first].content[5:45].decode()):
        del remote[gone]
    del remote[make_blob(codec.encode({"number": 1})).id]

    history = judged(remote, {MAIN: rest[-1]}, boundary=(second, "f" * 40))

    assert (history.versions, history.joins, history.ends) == (3, None, (second,))
    assert history.oldest == (second, 2, (first,))


def test_what_the_remote_has_no_more_may_be_here(remote):
    here = Objects()
    first = here.version(1)
    second = remote.version(2, first)

    history = judged(remote, {MAIN: second}, here, boundary=(second,))

    assert (history.versions, history.joins, history.ends) == (1, first, ())


def test_a_named_backup_may_be_a_version_of_the_branch_or_one_that_has_left_it(remote):
    versions = remote.versions(4)
    other = remote.version(3, versions[1], content=b'{"other": true}')

    refs = {MAIN: versions[-1], "refs/backups/gold": versions[2], "refs/backups/left": other}
    history = judged(remote, refs)

    assert history.refs == refs
    assert history.versions == 4


def test_an_imported_state_beside_the_branch_has_no_number(remote):
    aside = remote.version(0, content=b'{"old": 1}')
    ref = "refs/backups/import/pipeline_20260101_000000_000001"

    assert judged(remote, {ref: aside}).refs == {ref: aside}
    refused("number 0", remote, {"refs/backups/gold": aside})
    refused("number 0", remote, {MAIN: aside})


def test_audit_trails_are_commits_of_the_empty_tree_or_files_of_lines(remote):
    versions = remote.versions(3)
    fork = remote.event()
    failures = remote.event(remote.event(fork), remote.event(fork, serial=2))
    lines = remote.tree(**{"000000001_jsonl": b'{"serial": 1}\n{"serial": 2}\n'})
    archive = remote.commit(lines, serial=2, **{"Kept-As": ARCHIVE})
    files = {"backups_000000001_jsonl": b"{}\n", "lines_0001_000000001_jsonl": b'{"a": {}}\n'}
    imported = remote.commit(remote.tree(**files), serial=0, **{"Kept-As": IMPORTED})

    refs = {
        MAIN: versions[-1],
        FAILURES: failures,
        UNVERSIONED: remote.event(serial=0),
        ARCHIVE: archive,
        IMPORTED: imported,
    }

    assert judged(remote, refs).refs == refs


def test_a_trail_that_goes_on_where_ours_ends_is_followed_to_there(remote):
    here = Objects()
    ours = here.event(here.event())
    theirs = remote.event(ours)

    assert judged(remote, {FAILURES: theirs}, here).refs == {FAILURES: theirs}
    with pytest.raises(ValueError, match="has not sent"):
        judged(remote, {FAILURES: theirs})
    assert judged(remote, {FAILURES: theirs}, boundary=(theirs,)).ends == (theirs,)


def test_a_version_may_hold_again_what_is_here(remote):
    here = Objects()
    versions = here.versions(3)
    tree = here.tree(pipeline_json=codec.encode({"number": 1}))
    fourth = remote.commit(tree, versions[-1], serial=4, minutes=4)

    assert judged(remote, {MAIN: fourth}, here).tree == tree


@pytest.mark.parametrize(
    "content",
    [b"{}", b'{"a": 1e5, "b": [1.0, "\xc3\xa9"]}', b'{\n  "a": -0\n}\n', b'{"a": "\\u00e9"}\r\n'],
)
def test_a_state_in_a_layout_of_somebody_else_is_one(remote, content):
    at = remote.version(1, content=content)

    assert judged(remote, {MAIN: at}).versions == 1


def test_nan_passes_where_the_state_may_hold_it(remote):
    at = remote.version(1, content=codec.encode({"a": float("nan")}, allow_nan=True))

    assert judged(remote, {MAIN: at}, allow_nan=True).versions == 1
    refused("holds no state", remote, {MAIN: at})


# -- what does not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]\n",
        b"null",
        b"{",
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": NaN}',
        b'{"a": 1e400}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"a": ' + b"[" * 9000,
        b'{"a": ' + b"9" * 4301 + b"}",
        b'{}\n{"a": 1}\n',
        codec.encode({"a": "x" * 10_000}),
    ],
)
def test_a_version_that_holds_no_state_is_refused(remote, content):
    at = remote.version(2, remote.version(1), content=content)

    refused(r"refs/heads/main .* version 2 .* holds no state", remote, {MAIN: at})


def test_a_state_that_is_here_and_none_is_no_state_of_the_remote_either(remote):
    here = Objects()
    tree = here.tree(pipeline_json=b"corrupt")
    at = remote.commit(tree, serial=1)

    refused("holds no state", remote, {MAIN: at}, here)


def test_a_key_that_is_there_twice_among_very_many_is_found_in_no_time(remote):
    keys = b", ".join(b'"%d": 1' % number for number in range(100_000))
    at = remote.version(1, content=b'{%s, "99999": 2}' % keys)

    began = time.process_time()
    refused("duplicate key '99999'", remote, {MAIN: at}, max_state=2**24)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("serials", [(2, 2), (2, 4), (3, 2), (2, 1)])
def test_a_version_whose_number_does_not_follow_is_refused(remote, serials):
    older, newer = serials
    first = remote.version(1)
    second = remote.version(2, first)
    at = remote.version(older, second if older == 3 else first)

    refused("version", remote, {MAIN: remote.version(newer, at, minutes=9)})


def test_a_version_whose_number_does_not_follow_ours_is_refused(remote):
    here = Objects()
    versions = here.versions(3)

    refused("stands on version 3", remote, {MAIN: remote.version(5, versions[-1])}, here)


def test_a_version_that_is_older_than_its_parent_is_refused(remote):
    here = Objects()
    first = here.version(1, minutes=5)

    refused("is older", remote, {MAIN: remote.version(2, first, minutes=4)}, here)
    both = Objects({**here, **remote})
    refused("is older", both, {MAIN: both.version(2, first, minutes=4)})


def test_a_first_version_has_no_parent_and_others_have(remote):
    refused("no parent", remote, {MAIN: remote.version(2)})
    first = Objects()
    at = first.version(1, "1" * 40)
    refused("the first", first, {MAIN: at}, boundary=(at,))


def test_a_version_with_two_parents_is_refused(remote):
    first = remote.version(1)
    other = remote.version(1, content=b'{"other": 1}')

    refused("two parents", remote, {MAIN: remote.version(2, first, other)})


def test_a_version_of_other_files_or_modes_is_refused(remote):
    blob = remote.blob(b"{}\n")
    raw = bytes.fromhex(blob)
    trees = [
        remote.tree(other_json=b"{}\n"),
        remote.tree(pipeline_json=b"{}\n", z=b"{}\n"),
        remote.keep(b"tree", b"100755 pipeline.json\0" + raw),
        remote.keep(b"tree", b"120000 pipeline.json\0" + raw),
        remote.keep(b"tree", b"40000 pipeline.json\0" + raw),
        remote.keep(b"tree", b"0100644 pipeline.json\0" + raw),
        remote.keep(b"tree", b"100644 pipeline.json\0" + raw + b"x"),
        remote.keep(b"tree", b"rubbish"),
        remote.tree(**{"000000001_jsonl": b"{}\n"}),
    ]
    for tree in trees:
        refused("state file", remote, {MAIN: remote.commit(tree, serial=1)})


def test_a_version_of_the_empty_tree_or_of_what_is_kept_aside_is_refused(remote):
    here = Objects()
    line = here.event()
    corrupt = here.commit(here.tree(pipeline_json=b"{}"), serial=1, **{"Kept-As": "refs/corrupt/1"})

    refused("no version", remote, {MAIN: remote.event(serial=1)})
    for at in (line, corrupt):
        refused("no version", Objects(), {"refs/backups/gold": at}, here)


def test_a_tree_or_a_blob_of_another_type_is_refused(remote):
    blob = remote.blob(b"{}\n")
    refused("no tree", remote, {MAIN: remote.commit(blob, serial=1)})
    tree = remote.tree(pipeline_json=b"{}\n")
    entry = remote.keep(b"tree", b"100644 pipeline.json\0" + bytes.fromhex(tree))
    refused("no blob", remote, {MAIN: remote.commit(entry, serial=1)})
    refused("no commit", remote, {MAIN: tree})
    refused("no commit", remote, {FAILURES: blob})
    refused("no commit", remote, {ARCHIVE: blob})


def test_an_object_that_was_not_sent_is_named(remote):
    versions = remote.versions(3)
    for missing in list(remote):
        sent = Objects(remote)
        del sent[missing]
        refused(missing, sent, {MAIN: versions[-1]})


def test_an_object_that_nothing_leads_to_is_refused_unless_it_is_here(remote):
    head = remote.versions(2)[-1]
    for kind in (b"blob", b"tree", b"commit", b"tag"):
        sent, here = Objects(remote), Objects()
        smuggled = sent.keep(kind, b"")
        here.keep(kind, b"")

        refused(smuggled, sent, {MAIN: head})
        assert judged(sent, {MAIN: head}, here).versions == 2


def test_what_lies_behind_the_end_of_the_history_is_not_taken(remote):
    versions = remote.versions(3)

    refused("no ref leads to", remote, {MAIN: versions[-1]}, boundary=(versions[1],))


@pytest.mark.parametrize(
    "change",
    [
        (b"encoding UTF-8", b"encoding latin1"),
        (b"tree ", b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\ntree "),
        (b"author Jane", b"author Jane\0"),
        (b"encoding", b"gpgsig x\nencoding"),
        (b"+0000", b"+0100"),
        (b"Serial: 1", b"Serial: -1"),
        (b"Serial: 1", b"Serial: " + b"9" * 5000),
        (b"Time: 2026", b"Time: 20260"),
        (b"Changed-Keys: [", b"Changed-Keys: " + b"[" * 100_000),
        (b"Host: host", b"Host: ho\0st"),
        (b"Pid: 4711", b"Pad: 4711"),
    ],
)
def test_a_commit_that_gitstate_does_not_make_is_refused(remote, change):
    at = remote.version(1)
    content = remote.pop(at).content
    assert change[0] in content

    forged = remote.keep(b"commit", content.replace(*change, 1))

    refused("no commit of gitstate", remote, {MAIN: forged})


@pytest.mark.parametrize(
    "lines",
    [b"", b"x\n", b"[]\n", b"{}", b"{}\n\n", b'{}\n{"a"\n', b"{}\r{}\n", b"[" * 9000 + b"\n"],
)
def test_files_of_the_audit_trail_hold_an_object_in_each_line(remote, lines):
    tree = remote.tree(**{"000000001_jsonl": lines})

    at = remote.commit(tree, serial=1, **{"Kept-As": ARCHIVE})

    refused("JSON Lines", remote, {ARCHIVE: at})


def test_an_archive_has_nothing_but_files_of_lines_and_is_kept_as_one(remote):
    lines = remote.tree(**{"000000001_jsonl": b"{}\n"})
    entry = bytes.fromhex(remote.blob(b"{}\n"))
    trees = [
        remote.tree(),
        remote.tree(**{"000000001_jsonl": b"{}\n", "pipeline_json": b"{}\n"}),
        remote.keep(
            b"tree", b"100644 000000002.jsonl\0%s100644 000000001.jsonl\0%s" % (entry, entry)
        ),
        remote.keep(
            b"tree", b"100644 000000001.jsonl\0%s100644 000000001.jsonl\0%s" % (entry, entry)
        ),
        remote.keep(b"tree", b"100644 ../000000001.jsonl\0" + entry),
        remote.keep(b"tree", b"100755 000000001.jsonl\0" + entry),
        remote.keep(b"tree", b"100644 000000001.jsonl\0" + entry[:-1]),
    ]
    for tree in trees:
        at = remote.commit(tree, serial=1, **{"Kept-As": ARCHIVE})
        refused("cannot be used", remote, {ARCHIVE: at})
    refused("for that ref", remote, {ARCHIVE: remote.commit(lines, serial=1)})
    kept = remote.commit(lines, serial=1, **{"Kept-As": ARCHIVE})
    refused("for that ref", remote, {IMPORTED: kept})
    upon = remote.commit(lines, kept, serial=1, **{"Kept-As": ARCHIVE})
    refused("has a parent", remote, {ARCHIVE: upon})


def test_a_line_of_a_trail_that_is_a_version_is_refused(remote):
    here = Objects()
    version = here.version(1)

    refused("its tree is not empty", Objects(), {FAILURES: version}, here)
    refused("its tree is not empty", remote, {FAILURES: remote.event(remote.version(1))})


@pytest.mark.parametrize(
    "name",
    [
        "HEAD",
        "head~1",
        "12",
        "abcd",
        "a/b",
        "../../config",
        "a..b",
        ".a",
        "a.lock",
        "a b",
        "a^{}",
        "",
        "import",
        "import/",
        "import/..",
        "import/a/b",
        "import/a.lock",
        "x" * 201,
        "import/" + "x" * 241,
        "\udc80",
        "import/\udc80",
        "a\n",
    ],
)
def test_a_backup_that_cannot_be_called_so_is_refused(remote, name):
    at = remote.version(1)

    refused("cannot be called", remote, {f"refs/backups/{name}": at})


def test_a_ref_that_is_at_no_id_is_refused(remote):
    for at in ("", "../../../etc/passwd", "0" * 39, "A" * 40):
        refused("something else than a commit", remote, {MAIN: at})


def test_whatever_stands_in_an_object_is_taken_down_and_judged(remote, scale, seed, tally) -> None:
    chance = random.Random(seed)
    versions = remote.versions(3)
    lines = remote.tree(**{"000000001_jsonl": b'{"serial": 1}\n'})
    archive = remote.commit(lines, serial=1, **{"Kept-As": ARCHIVE})
    refs = {MAIN: versions[-1], FAILURES: remote.event(), ARCHIVE: archive}
    whole = judged(remote, refs)
    count = scale(2000, 100_000)
    for _ in range(count):
        damaged = Objects(remote)
        raw = damaged[chance.choice(list(remote))]
        at, length = chance.randrange(len(raw.content) + 1), chance.choice([0, 1, 20])
        added = bytes(chance.choices(b'0a\n\0 {}[]":,\xff', k=chance.choice([0, 1, 5])))
        content = raw.content[:at] + added + raw.content[at + length :]
        # As if its hash were that of what it was: so it is reached.
        damaged[raw.id] = Raw(raw.id, raw.kind, content)
        try:
            found = judged(damaged, refs)
        except ValueError:
            continue
        assert (found.head, found.versions, found.refs) == (whole.head, whole.versions, refs)
    tally("forged objects judged", count)


# -- between processes -----------------------------------------------------------------------------------------------


def test_a_history_passes_between_processes_as_json(remote):
    versions = remote.versions(3)
    refs = {MAIN: versions[-1], "refs/backups/gold": versions[0], "HEAD": versions[-1]}
    for history in (judged(remote, refs), judged(Objects(), {})):
        assert History.from_json(history.to_json()) == history


@pytest.mark.parametrize(
    "change",
    [
        {"head": "x"},
        {"head": 5},
        {"refs": []},
        {"refs": {MAIN: "x"}},
        {"refs": {"refs/backups/../x": "0" * 40}},
        {"refs": {"HEAD": "0" * 40}},
        {"versions": -1},
        {"versions": True},
        {"versions": "1"},
        {"oldest": ["0" * 40, 1]},
        {"oldest": ["0" * 40, 1, ["x"]]},
        {"ends": ["x"]},
        {"ends": {}},
        {"ignored": [1]},
        {"more": 1},
    ],
)
def test_what_is_told_otherwise_is_not_believed(remote, change):
    said = json.loads(judged(remote, {MAIN: remote.version(1)}).to_json())

    for text in (json.dumps({**said, **change}), "[]", "{", "", "[" * 100_000):
        with pytest.raises(ValueError):
            History.from_json(text)


# -- real ones -------------------------------------------------------------------------------------------------------


def sent_by(state: PipelineState, folder: Path, *without: str) -> tuple[Path, dict[str, str]]:
    """The pack of what the refs of a store lead to, and these."""

    def git(*arguments: str, stdin: bytes = b"") -> str:
        command = [GIT or "git", "--git-dir", str(state.git_dir), *arguments]
        return subprocess.run(
            command, input=stdin, stdout=subprocess.PIPE, check=True
        ).stdout.decode()

    rows = git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    refs = dict(row.split() for row in rows if not row.startswith("refs/corrupt/"))
    wanted = "\n".join([*refs.values(), *(f"^{each}" for each in without), ""])
    name = git(
        "pack-objects",
        "--revs",
        "--delta-base-offset",
        "-q",
        str(folder / "p"),
        stdin=wanted.encode(),
    )
    pack = folder / f"p-{name.strip()}.pack"
    pack.with_suffix(".idx").unlink()
    return pack, refs


@pytest.fixture
def lived(tmp_path: Path) -> Iterator[PipelineState]:
    """A state with a window, names, failures, a restore, changes without versions, and an import."""
    path = tmp_path / "theirs" / "pipeline.json"
    path.parent.mkdir()
    with PipelineState(path, max_backups=5) as state:
        for number in range(20):
            with state.transaction(validate=False) as txn:
                txn.data[f"key{number}"] = number
            if number in (3, 12):
                state.create_backup(f"named-{number}")
            with pytest.raises(ZeroDivisionError), state.transaction(validate=False):
                _ = 1 / 0
        path.write_text('{"edited": [1, 2]}')
        state.write({"edited": [1, 2], "more": "\u00e9"}, validate=False)
        state.restore_backup("HEAD~1")
        with PipelineState(path, backup_before_write=False) as other:
            other.write({"unversioned": 1}, validate=False)
        state.create_backup()
        old = tmp_path / "old" / "pipeline.json"
        old.parent.mkdir()
        leave_old_layout(old)
        assert state.import_backups(old.parent / ".pipeline").names
        state.prune()
        state.checkpoint()
        yield state


@needs_git
def test_a_store_that_has_lived_passes_as_a_whole_and_from_any_version_on(lived, tmp_path):
    boundary = tuple(Shallow(lived.git_dir).read())
    pack, refs = sent_by(lived, tmp_path)
    inspection, raws = Inspection(FILE, max_state=10_000), Objects()

    def visit(raw: Raw) -> None:
        inspection.visit(raw)
        raws[raw.id] = raw

    index_pack(pack, LIMITS, visit)

    def nothing(_: str) -> bool:
        return False

    history = inspection.judge(refs, boundary, nothing, raws.__getitem__)

    assert {ARCHIVE, FAILURES, IMPORTED, UNVERSIONED, "refs/backups/named-3"} <= refs.keys()
    assert any(name.startswith("refs/backups/import/") for name in refs)
    assert history.refs == refs
    assert history.head == next(lived.log(1)).id
    assert history.versions == len(list(lived.log()))
    assert set(history.ends) == set(boundary)
    for number, version in enumerate(lived.log()):
        (tmp_path / str(number)).mkdir()
        pack, _ = sent_by(lived, tmp_path / str(number), version.id)
        some = Inspection(FILE, max_state=10_000)
        index_pack(pack, LIMITS, some.visit)
        command = [GIT or "git", "--git-dir", lived.git_dir, "rev-list", "--objects", version.id]
        rows = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()
        known = {row[:40] for row in rows.splitlines()}

        older = some.judge(refs, boundary, known.__contains__, raws.__getitem__)

        assert (older.versions, older.joins) == (number, version.id)
