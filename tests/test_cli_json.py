"""What programs get: the keys of the JSON of every verb, which other versions of the command have as well."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command import Done, run
from oracle import forks, git_environment, needs_git

from gitstate import PipelineState
from gitstate.cli.app import VERBS

pytestmark = needs_git

VERSION = {
    *("id", "serial", "timestamp", "operation", "message", "author", "changed_keys", "parents")
}
REMOTE = {"name", "url", "ahead", "behind", "theirs", "diverged"}
REMOTE |= {"last_push", "last_pull", "last_error"}
SETTINGS = {"name", "url", "push", "timeout"}
HOLDER = {"pid", "host", "operation", "since"}
UPDATE = {"name", "old", "new"}
ADDED = {"op", "pointer", "new"}
REPLACED = ADDED | {"old"}

PROPOSED = {"dry_run": True, "version": None}
MADE = {"dry_run": False, "version": VERSION}
PUSHED = {"remote": REMOTE, "versions": 1, "updates": UPDATE, "notes": []}
REPAIR = {"ok": True, "problems": [], "mended": [], "quarantined": [], "lost": []}
ANY = object()
"""In what is expected: whatever is there. A set stands for objects with these keys, all else for itself."""

STORY: list[tuple[list[str], dict[str, Any]]] = [
    (["init"], {**MADE, "path": ANY, "made": True}),
    (["set", "/phase1", '{"status": "running"}'], {**MADE, "changes": ADDED}),
    (["edit"], {"dry_run": False, "version": None, "changes": []}),
    (["apply", "-"], {**MADE, "changes": REPLACED}),
    (["unset", "/phase1/status"], {**MADE, "changes": {"op", "pointer", "old"}}),
    (["undo"], {**MADE, "changes": ADDED}),
    (["redo"], {**MADE, "changes": ANY}),
    (["restore", "2", "--dry-run"], {**PROPOSED, "changes": ADDED}),
    (
        ["backup", "a", "--dry-run"],
        {"dry_run": True, "version": VERSION, "name": "a", "made": False},
    ),
    (["backup", "a"], {**MADE, "name": "a", "made": False}),
    (["backup", "--delete", "a"], {**MADE, "deleted": "a", "forgotten": False}),
    (["backups"], {"backups": VERSION | {"names"}}),
    (["get", "/phase1"], {}),
    (["show"], {**dict.fromkeys(VERSION | {"names"}, ANY), "changes": {"op", "pointer", "old"}}),
    (["diff", "1", "2"], {"from": VERSION, "to": VERSION, "changes": ADDED}),
    (["blame"], {"pointer": "", "values": {"pointer", "value", "version", "boundary"}}),
    (["verify"], {"ok": True, "edited": False, "versions": 6, "problems": []}),
    (["repair", "--dry-run"], {"dry_run": True, **REPAIR}),
    (["repair"], {"dry_run": False, **REPAIR}),
    (
        ["prune", "--keep", "3", "--dry-run"],
        {"dry_run": True, "first": 1, "last": 2, "kept": [], "held": [], "freed": ANY},
    ),
    (["checkpoint"], {"dry_run": False, "path": ANY}),
    (["export", "HEAD", "head.json"], {"files": ANY}),
    (["unlock"], {"dry_run": False, "unlocked": None}),
    (
        ["import"],
        {"dry_run": False, **dict.fromkeys(("versions", "audit", "unchanged"), 0), "names": []}
        | {"skipped": []},
    ),
    (["hooks"], {"hooks": {"hook", "standing", "folder", "what"}}),
    (
        ["hooks", "install", "post-commit", "--dry-run"],
        {"dry_run": True, "hook": "post-commit", "path": ANY},
    ),
    (["reroot"], {"dry_run": False, "ids": {}}),
    (["remote", "add", "origin", "backup.git"], {"dry_run": False, "remote": SETTINGS}),
    (["push", "--dry-run"], {"dry_run": True, **PUSHED, "versions": 6, "updates": []}),
    (["push"], {"dry_run": False, **PUSHED, "versions": 6}),
    (
        ["pull", "--dry-run"],
        {"dry_run": True, **PUSHED, "versions": 0, "updates": [], "version": None},
    ),
    (["remote"], {"ours": ANY, "remotes": REMOTE | SETTINGS}),
    (["clone", "backup.git", "second"], {**MADE, "path": ANY, "remote": REMOTE}),
]

LINES = [
    (
        ["log", "/phase1", "--patch", "--graph"],
        VERSION | {"names", "value", "changes", "size", "seconds"},
    ),
    (["watch", "--since", "1", "--limit", "1"], VERSION | {"names"}),
    (
        ["history"],
        {"timestamp", "operation", "success", "pid", "host", "commit", "details"},
    ),
]


def judge(found: Any, expected: dict[str, Any]) -> None:
    """Sees that a document has these keys, and no others, and below them what is expected there."""
    assert set(found) == set(expected)
    for key, inside in expected.items():
        if isinstance(inside, set):
            rows = found[key] if isinstance(found[key], list) else [found[key]]
            assert rows
            assert [set(row) for row in rows] == [inside] * len(rows), key
        else:
            assert inside is ANY or found[key] == inside, key


def run_json(*arguments: str, cwd: Path, **settings: Any) -> Done:
    return run("--json", "-C", cwd / "pipeline.json", *arguments, cwd=cwd, **settings)


def test_every_verb_has_the_keys_that_it_had(tmp_path):
    repository = ["git", "init", "-q", "--bare", "-b", "main", tmp_path / "backup.git"]
    subprocess.run(repository, env=git_environment(), check=True)
    patch = json.dumps({"phase1": {"status": "success"}})

    for arguments, expected in STORY:
        told = {"given": patch, "env": {"GITSTATE_EDITOR": "true"}}
        judge(run_json(*arguments, cwd=tmp_path, **told).document, expected)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    PipelineState(tmp_path / "pipeline.json").write({"phase1": {"status": "running"}})
    PipelineState(tmp_path / "pipeline.json").write({"phase1": {"status": "success"}})
    return tmp_path


def test_what_is_a_line_each_has_its_keys_as_well(folder):
    for arguments, keys in LINES:
        (line, *_) = run_json(*arguments, cwd=folder).lines
        assert set(line) == keys


def test_the_record_of_a_command_is_beside_its_output(folder):
    done = run_json("run", "echo", "1", cwd=folder)

    assert done.out == "1\n"
    record = {"status": "success", "timestamps": ANY, "exit_status": 0}
    told = json.loads(done.err)
    judge(told, {**MADE, "pointer": "/runs/echo", "record": set(record)})


@forks
def test_a_holder_and_a_state_have_their_keys_and_times_end_alike(folder):
    state = PipelineState(folder / "pipeline.json")
    state.remotes.add("origin", folder / "backup.git")
    with state.transaction(operation="hold"):
        lock = run_json("lock", cwd=folder, check=False).document
        status = run_json("status", cwd=folder).document
        error = run_json("unlock", cwd=folder, check=False).error

    judge(lock, {"lock": HOLDER})
    assert lock["lock"] == status["lock"] == error["holder"]
    assert lock["lock"]["since"].endswith("Z")
    assert set(status["head"]) == VERSION
    assert [set(each) for each in status["remotes"]] == [REMOTE]
    assert set(status) == {"path", "keys", "head", "file", "lock", "remotes", "untold"} | set(
        state.get_status_summary()
    )


def test_no_verb_is_left_out():
    told = {arguments[0] for arguments, _ in [*STORY, *LINES]} | {"run", "lock", "status"}
    without = {"demo", "completion"}  # a report for people, and a script

    assert told | without == {name for verbs in VERBS.values() for name in verbs}
