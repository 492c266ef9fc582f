"""The hook `pre-receive`: a server that receives a history refuses whatever is none, and is as it was before."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

HOOK = Path(__file__).resolve().parents[1] / "hooks" / "pre-receive"
SIGNATURE = "somebody <somebody@example.org> 1700000000 +0000"

pytestmark = pytest.mark.skipif(
    shutil.which("git") is None or sys.platform == "win32", reason="needs git, and runs a script"
)


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {
        **kept,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "LC_ALL": "C.UTF-8",
    }


class Repository:
    """A bare repository, by stock git."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            subprocess.run(
                ["git", "init", "-q", "--bare", "-b", "main", path], check=True, env=environment()
            )

    def run(self, *arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["git", f"--git-dir={self.path}", *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            env=environment(),
        )

    def git(self, *arguments: str | Path, stdin: bytes = b"") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()

    def refs(self) -> dict[str, str]:
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.split(" ") for line in lines)

    def blob(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", stdin=content)

    def tree(self, *entries: tuple[str, str, str]) -> str:
        """A tree of entries (mode, name, id)."""
        kinds = {"040000": "tree", "160000": "commit"}
        lines = "".join(f"{m} {kinds.get(m, 'blob')} {at}\t{name}\0" for m, name, at in entries)
        return self.git("mktree", "-z", "--missing", stdin=lines.encode())

    def commit(self, tree: str, *parents: str, message: str = "a version") -> str:
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        lines += [f"author {SIGNATURE}", f"committer {SIGNATURE}", "", message]
        content = "\n".join(lines).encode() + b"\n"
        return self.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=content)

    def version(self, content: bytes, *parents: str, name: str = "pipeline.json") -> str:
        return self.commit(self.tree(("100644", name, self.blob(content))), *parents)


class Remote(Repository):
    """One with the hook."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        (path / "hooks").mkdir(exist_ok=True)
        shutil.copy(HOOK, path / "hooks" / "pre-receive")

    def refuses(self, sender: Repository, *refspecs: str, because: str) -> list[str]:
        """What it says when it refuses a push; it is as it was."""
        before, objects = self.refs(), self.git("count-objects", "-v")
        done = sender.run("push", self.path, *refspecs)
        said = done.stderr.decode()
        assert done.returncode != 0, said
        assert because in said
        assert "Traceback" not in said
        assert self.refs() == before
        assert self.git("count-objects", "-v") == objects
        return [line for line in said.splitlines() if line.startswith("remote: gitstate: ")]

    def accepts(self, sender: Repository, *refspecs: str) -> None:
        done = sender.run("push", self.path, *refspecs)
        assert done.returncode == 0, done.stderr.decode()
        assert b"remote: gitstate" not in done.stderr


@pytest.fixture
def remote(tmp_path):
    return Remote(tmp_path / "remote.git")


@pytest.fixture
def sender(tmp_path):
    return Repository(tmp_path / "sender.git")


@pytest.fixture
def old(sender, remote):
    """The id of a version that the remote has."""
    made = sender.version(b'{"n": 1}')
    sender.git("update-ref", "refs/heads/main", made)
    remote.accepts(sender, "main")
    return made


def test_what_gitstate_writes_is_accepted_again_and_again(state, remote, path):
    mirror = "refs/*:refs/*"
    for number in range(3):
        state.write({"n": number, "text": "\u00e9\U0001f600"})
    with pytest.raises(RuntimeError), state.transaction() as txn:
        txn.data["n"] = 7
        raise RuntimeError
    state.create_backup("before-speech")
    state.checkpoint()
    sender = Repository(state.git_dir)
    remote.accepts(sender, mirror)

    path.write_text('{"n": 8}')
    state.write({"n": 9})
    state.undo()
    state.create_backup("after")
    state.checkpoint()
    remote.accepts(sender, mirror)

    assert remote.refs() == sender.refs()
    assert set(remote.refs()) >= {"refs/audit/failures", "refs/backups/after", "refs/heads/main"}


def test_nothing_to_check_is_accepted(sender, remote, old):
    sender.git("update-ref", "refs/tags/mine", sender.blob(b"whatever"))

    remote.accepts(sender, "refs/tags/mine")
    remote.accepts(sender, ":refs/tags/mine")


@pytest.mark.parametrize("name", ["refs/heads/main", "refs/backups/b", "refs/audit/failures"])
def test_a_ref_is_not_taken_away(name, sender, remote, old):
    sender.git("update-ref", name, old)
    remote.accepts(sender, name)
    remote.git("symbolic-ref", "HEAD", "refs/heads/other")  # else git itself refuses
    remote.git("config", "receive.denyDeleteCurrent", "ignore")

    said = remote.refuses(sender, f":{name}", because="deleted")

    assert len(said) == 1
    assert name in said[0]


@pytest.mark.parametrize(
    "name", ["refs/heads/main", "refs/heads/other", "refs/backups/b", "refs/audit/failures"]
)
def test_a_ref_is_not_moved_to_what_does_not_follow_it(name, sender, remote, old):
    sender.git("update-ref", name, sender.version(b'{"n": 2}', old))
    remote.accepts(sender, name)
    sender.git("update-ref", name, sender.version(b'{"n": 3}', old))

    said = remote.refuses(sender, f"+{name}", because="does not follow")

    assert len(said) == 1
    assert name in said[0]


def test_a_ref_that_follows_is_moved(sender, remote, old):
    sender.git("update-ref", "refs/backups/b", old)
    remote.accepts(sender, "refs/backups/b")
    sender.git("update-ref", "refs/backups/b", sender.version(b'{"n": 2}', old))

    remote.accepts(sender, "refs/backups/b")


def test_the_archive_is_made_and_never_changed(sender, remote, old):
    archive = "refs/audit/archive"
    lines = sender.tree(("100644", "000000001.jsonl", sender.blob(b"{}\n")))
    sender.git("update-ref", archive, made := sender.commit(lines))
    remote.accepts(sender, archive)
    sender.git("update-ref", archive, sender.commit(lines, made))

    remote.refuses(sender, archive, because="refs/audit/archive")
    remote.refuses(sender, f":{archive}", because="refs/audit/archive")


def test_each_ref_that_is_refused_has_a_line(sender, remote, old):
    for name in ("a", "b"):
        sender.git("update-ref", f"refs/backups/{name}", old)
    remote.accepts(sender, "refs/backups/*:refs/backups/*")

    said = remote.refuses(sender, ":refs/backups/a", ":refs/backups/b", because="deleted")

    assert [name in line for name, line in zip("ab", said, strict=True)] == [True, True]


def test_what_is_no_commit_is_no_version(sender, remote, old):
    sender.git("update-ref", "refs/backups/b", sender.blob(b"{}"))

    remote.refuses(sender, "refs/backups/b", because="commit")


def test_a_tag_object_is_no_version(sender, remote, old):
    content = f"object {old}\ntype commit\ntag b\ntagger {SIGNATURE}\n\nb\n".encode()
    tag = sender.git("hash-object", "-t", "tag", "-w", "--stdin", stdin=content)
    sender.git("update-ref", "refs/backups/b", tag)

    remote.refuses(sender, "refs/backups/b", because="commit")


def trees(sender: Repository) -> dict[str, str]:
    """Trees that hold something else than one state."""
    good = sender.blob(b"{}")
    inner = sender.tree(("100644", "pipeline.json", good))
    one = ("100644", "pipeline.json", good)
    return {
        "a second file": sender.tree(one, ("100644", "secrets.env", sender.blob(b"KEY"))),
        "an empty tree": sender.tree(),
        "another name": sender.tree(("100644", "other.json", good)),
        "an executable": sender.tree(("100755", "pipeline.json", good)),
        "a symlink": sender.tree(("120000", "pipeline.json", sender.blob(b"/etc/passwd"))),
        "a folder": sender.tree(("040000", "pipeline.json", inner)),
        "many files": sender.tree(*(("100644", f"pipeline.json.{n}", good) for n in range(2000))),
        "a submodule": sender.tree(("160000", "pipeline.json", "1" * 40)),
    }


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/backups/b"])
@pytest.mark.parametrize("below", [False, True], ids=["newest", "in between"])
@pytest.mark.parametrize(
    "what",
    [
        "a second file",
        "an empty tree",
        "another name",
        "an executable",
        "a symlink",
        "a folder",
        "a submodule",
        "many files",
    ],
)
def test_a_version_holds_the_state_file_alone(what, below, ref, sender, remote, old):
    bad = sender.commit(trees(sender)[what], sender.version(b'{"n": 2}', old))
    sender.git("update-ref", ref, sender.version(b'{"n": 3}', bad) if below else bad)

    said = remote.refuses(sender, f"+{ref}", because="must hold")

    assert len(said) == 1
    assert bad[:7] in said[0]


def test_the_name_is_that_of_the_first_version_where_there_is_none_yet(sender, remote):
    first = sender.version(b"{}", name="data.json")
    sender.git("update-ref", "refs/heads/main", sender.version(b"{}", first))
    remote.refuses(sender, "main", because="data.json")

    sender.git("update-ref", "refs/heads/main", first)
    remote.accepts(sender, "main")


def test_the_name_can_be_given(sender, remote):
    sender.git("update-ref", "refs/heads/main", sender.version(b"{}", name="two words.json"))
    remote.git("config", "gitstate.file", "pipeline.json")
    remote.refuses(sender, "main", because="pipeline.json")

    remote.git("config", "gitstate.file", "two words.json")
    remote.accepts(sender, "main")


def test_what_another_ref_has_brought_in_is_checked_when_it_is_to_be_a_version(sender, remote, old):
    bad = sender.commit(trees(sender)["a second file"], old)
    sender.git("update-ref", "refs/heads/side", bad)
    remote.accepts(sender, "refs/heads/side")
    sender.git("update-ref", "refs/heads/main", bad)

    remote.refuses(sender, "main", because="secrets.env")


def test_a_replacement_hides_nothing(sender, remote, old):
    bad = sender.commit(trees(sender)["a second file"], old)
    sender.git("update-ref", f"refs/replace/{bad}", sender.version(b"{}", old))
    remote.accepts(sender, "refs/replace/*:refs/replace/*")
    sender.git("update-ref", "refs/heads/main", bad)

    remote.refuses(sender, "main", because="pipeline.json")


@pytest.mark.parametrize(
    ("content", "because"),
    [
        (b"", "not strict JSON"),
        (b'{"n": NaN}', "NaN"),
        (b'{"n": [-Infinity]}', "-Infinity"),
        (b'{"n": 1e999}', "1e999"),
        (b'{"a": {"n": 1, "n": 2}}', "duplicate key 'n'"),
        (b"[1]", "not an object"),
        (b"1", "not an object"),
        (b"null", "not an object"),
        (b'[{"a": 1}]', "not an object"),
        (b"{'a': 1}", "not strict JSON"),
        (b'{"a": 1} trailing', "not strict JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "not strict JSON"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not strict JSON"),
        (b'{"a": ' * 100_000, "too deep"),
        (b"<<<<<<< HEAD\n", "not strict JSON"),
        (b'{"\x1b[2Jb": 1}', "not strict JSON"),
    ],
)
@pytest.mark.parametrize("below", [False, True], ids=["newest", "in between"])
def test_a_state_is_a_strict_json_object(content, because, below, sender, remote, old):
    bad = sender.version(content, sender.version(b'{"n": 2}', old))
    new = sender.version(b'{"n": 3}', bad) if below else bad
    sender.git("update-ref", "refs/heads/main", new)

    said = remote.refuses(sender, "main", because=because)

    assert len(said) == 1
    assert bad[:7] in said[0]


def test_a_pair_of_surrogates_is_text(sender, remote, old):
    sender.git("update-ref", "refs/heads/main", sender.version(b'{"a": "\\ud83d\\ude00"}', old))

    remote.accepts(sender, "main")


def test_names_cannot_write_to_the_terminal(sender, remote, old):
    tree = sender.tree(("100644", "\x1b[2J\nremote: all is well", sender.blob(b"{}")))
    sender.git("update-ref", "refs/heads/main", sender.commit(tree, old))

    said = remote.refuses(sender, "main", because="\\x1b[2J\\n")

    assert len(said) == 1


def test_a_state_that_is_too_large_is_refused(sender, remote, old):
    content = json.dumps({"text": "x" * 2000}).encode()
    sender.git("update-ref", "refs/heads/main", sender.version(content, old))

    remote.git("config", "gitstate.maxSize", "1k")
    remote.refuses(sender, "main", because="1,024 (gitstate.maxSize)")
    remote.git("config", "gitstate.maxSize", "nonsense")
    remote.refuses(sender, "main", because="gitstate.maxSize of this server")
    remote.git("config", "gitstate.maxSize", "1m")
    remote.accepts(sender, "main")


def peak_of_a_push(sender: Repository, remote: Remote) -> tuple[str, int]:
    """What a refused push says, and the most memory in bytes that the hook has taken."""
    hook = remote.path / "hooks" / "pre-receive"
    hook.rename(hook.with_name("hook"))
    hook.write_text(
        f"#!{sys.executable}\nimport resource, subprocess, sys\n"
        "done = subprocess.run(['hooks/hook'])\n"
        "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\n"
        "sys.exit(done.returncode)\n"
    )
    hook.chmod(0o755)
    said = sender.run("push", remote.path, "main").stderr.decode()
    return said, int(said.partition("peak ")[2].split()[0]) * 1024


def test_a_state_that_is_too_large_is_not_read_into_memory(sender, remote, old):
    sender.git("config", "core.bigFileThreshold", "1m")
    remote.git("config", "core.bigFileThreshold", "1m")
    content = b'{"a": "' + b"x" * 200_000_000 + b'"}'
    sender.git("update-ref", "refs/heads/main", sender.version(content, old))

    said, peak = peak_of_a_push(sender, remote)

    assert "gitstate.maxSize" in said
    assert peak < 100_000_000


def schema(remote: Remote, name: str) -> None:
    remote.git("config", "gitstate.schema", name)
    hook = remote.path / "hooks" / "pre-receive"
    lines = hook.read_text().splitlines(keepends=True)
    hook.write_text("".join([f"#!{sys.executable}\n", *lines[1:]]))
    (remote.path / "hooks" / "ours.py").write_text(
        "import pydantic\nclass Ours(pydantic.BaseModel):\n    n: int\n"
        "class Angry:\n    @classmethod\n    def model_validate_json(cls, content):\n"
        "        raise RuntimeError('not today')\n"
    )


def test_the_newest_version_fits_the_schema(sender, remote, old):
    schema(remote, "ours:Ours")
    bad = sender.version(b'{"n": "many"}', old)
    sender.git("update-ref", "refs/heads/main", bad)
    said = remote.refuses(sender, "main", because="ours:Ours")
    assert len(said) == 1
    assert "/n" in said[0]

    # An older one need not: it was made when there was no schema.
    sender.git("update-ref", "refs/heads/main", sender.version(b'{"n": 2}', bad))
    remote.accepts(sender, "main")


def test_the_newest_version_of_each_ref_fits_the_schema(sender, remote, old):
    schema(remote, "ours:Ours")
    for name in ("a", "b"):
        bad = sender.version(f'{{"n": "{name}"}}'.encode(), old)
        sender.git("update-ref", f"refs/backups/{name}", bad)
    sender.git("update-ref", "refs/heads/main", sender.version(b'{"n": 2}', old))

    said = remote.refuses(sender, "main", "refs/backups/*:refs/backups/*", because="ours:Ours")

    assert [f"refs/backups/{name}" in line for name, line in zip("ab", said, strict=True)] == [
        True,
        True,
    ]


def test_the_default_schema_can_be_given(sender, remote, old):
    schema(remote, "gitstate:PipelineSchema")
    sender.git("update-ref", "refs/heads/main", sender.version(b'{"phase4": "done"}', old))
    remote.refuses(sender, "main", because="/phase4")

    sender.git("update-ref", "refs/heads/main", sender.version(b'{"phase4": {}}', old))
    remote.accepts(sender, "main")


@pytest.mark.parametrize(
    "name", ["nothing", "no.such:Model", "ours:Missing", "json:dumps", "ours:Angry", ":", "ours:"]
)
def test_a_schema_that_cannot_be_used_lets_nothing_in(name, sender, remote, old):
    schema(remote, name)
    sender.git("update-ref", "refs/heads/main", sender.version(b'{"n": 2}', old))

    said = remote.refuses(sender, "main", because=name)

    assert len(said) == 1


def test_a_duplicate_key_among_a_million_is_found_in_seconds(sender, remote, old):
    keys = ",".join(f'"{number}": 0' for number in [*range(1_000_000), 999_999])
    sender.git("update-ref", "refs/heads/main", sender.version(f"{{{keys}}}".encode(), old))
    begun = time.perf_counter()

    remote.refuses(sender, "main", because="duplicate key '999999'")

    assert time.perf_counter() - begun < 60


def test_thousands_of_backups_take_seconds(sender, remote, old):
    schema(remote, "ours:Ours")
    lines = "".join(f"create refs/backups/{number} {old}\n" for number in range(3000))
    sender.git("update-ref", "--stdin", stdin=lines.encode())
    begun = time.perf_counter()

    remote.accepts(sender, "refs/backups/*:refs/backups/*")

    assert time.perf_counter() - begun < 60


def test_ten_thousand_versions_take_seconds(sender, remote, tally):
    count, document = 10_000, {f"key{number}": "x" * 20 for number in range(40)}
    stream = ["reset refs/heads/main\n"]
    for number in range(count):
        content = json.dumps({"n": number, **document}, indent=2)
        stream.append(
            f"commit refs/heads/main\ncommitter {SIGNATURE}\ndata 1\nv\n"
            f"M 100644 inline pipeline.json\ndata {len(content)}\n{content}\n"
        )
    sender.git("fast-import", "--quiet", stdin="".join(stream).encode())
    bare = Repository(remote.path.with_name("bare.git"))
    took = {}

    for to in (bare, remote):
        begun = time.perf_counter()
        done = sender.run("push", "-q", to.path, "main")
        took[to] = time.perf_counter() - begun
        assert done.returncode == 0, done.stderr

    print(f"{count} versions: {took[remote]:.1f} s, without the hook {took[bare]:.1f} s")
    tally("versions pushed to a server with the hook", count)
    assert took[remote] - took[bare] < 30
