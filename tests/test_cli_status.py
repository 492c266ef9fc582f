"""The verbs status, lock and unlock."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import environment, installed, refused, run
from oracle import forks, outlived_lock

from gitstate import PipelineState, StateRemoteError
from gitstate.lock import host

DOCUMENT = {
    "pipeline_version": "3.1",
    "file_id": "speech",
    "phase1": {"status": "success", "timestamps": {"duration": 3725}, "errors": []},
    "phase2": {"status": "failed", "errors": ["one", "two"]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state of two versions."""
    with PipelineState(tmp_path / "pipeline.json") as state:
        state.write({"phase1": {"status": "running"}})
        state.write(DOCUMENT, message="phase 2\nbroke")
    return tmp_path


def rows(text: str) -> dict[str, str]:
    """What is said behind the first word of each line."""
    return {line.split()[0]: line.partition(" ")[2].strip() for line in text.splitlines() if line}


def test_status_shows_the_phases_the_newest_version_and_that_nobody_is_at_work(folder):
    said = run("status", cwd=folder).out
    told = rows(said)

    assert said.startswith(f"{folder / 'pipeline.json'}  pipeline 3.1  file speech\n")
    assert told["version"].startswith("2 (")
    assert told["version"].endswith("ago: phase 2") or told["version"].endswith("now: phase 2")
    assert told["file"] == "as in that version"
    assert told["lock"] == "free"
    assert told["phase1"].split() == ["success", "1", "h", "02", "min", "0"]
    assert told["phase2"].split() == ["failed", "2"]
    assert all(len(line) <= 80 for line in said.splitlines()[1:])


def test_a_long_message_takes_one_line_of_a_status_and_with_v_all_of_it(folder):
    PipelineState(folder / "pipeline.json").write({"n": 1}, message="word " * 40 + "end")

    lines = run("status", cwd=folder, env={"COLUMNS": "80"}).out.splitlines()
    assert len(lines[1]) <= 80
    assert lines[1].startswith("version  3 (")
    assert lines[2].startswith("file ")
    assert "word end" in run("status", "-v", cwd=folder, env={"COLUMNS": "80"}).out


def test_status_is_one_document_for_programs(folder):
    state = PipelineState(folder / "pipeline.json")
    document = run("status", "--json", cwd=folder).document

    assert document["path"] == os.fspath(folder / "pipeline.json")
    assert document["phases"] == state.get_status_summary()["phases"]
    assert document["keys"] == list(DOCUMENT)
    assert document["head"]["id"] == state.version("HEAD").id
    assert document["head"]["timestamp"].endswith("Z")
    assert document["file"] == {"status": "clean", "changed_keys": []}
    assert document["lock"] is None
    assert document["remotes"] == document["untold"] == []


def test_status_shows_what_was_run_beside_the_phases(folder):
    run("run", "--", "sh", "-c", "exit 3", cwd=folder, check=False)
    state = PipelineState(folder / "pipeline.json")
    with state.transaction() as txn:
        txn.data["runs"] |= {"mine": 3, "other": {"status": "a record of its own"}}

    told = rows(run("status", cwd=folder).out)
    assert told["phase2"].split() == ["failed", "2"]
    assert told["run"].split() == ["status", "duration", "errors"]
    assert told["sh"].split()[0] == "failed"
    assert told["sh"].split()[-1] == "1"
    assert "mine" not in told
    found = run("status", "--json", cwd=folder).document["runs"]
    assert list(found) == ["sh"]
    assert (found["sh"]["status"], found["sh"]["errors"]) == ("failed", 1)

    with state.transaction() as txn:
        del txn.data["phase1"], txn.data["phase2"]
    assert "failed" in rows(run("status", cwd=folder).out)["sh"]
    (folder / "pipeline.json").write_text("broken")
    assert run("status", "--json", cwd=folder, check=False).document["runs"] is None


def test_an_edited_file_is_shown_with_the_keys_that_differ(folder):
    edited = {**DOCUMENT, "phase1": {"status": "weird"}, "new\x1b[31m": 1}
    del edited["file_id"]
    (folder / "pipeline.json").write_text(json.dumps(edited))

    said = run("status", "--color=always", cwd=folder).out
    assert "differs from that version in: phase1, new\\x1b[31m, file_id" in said
    assert "\x1b[31mfailed" in said  # red
    document = run("status", "--json", cwd=folder).document
    assert document["file"] == {
        "status": "edited",
        "changed_keys": ["phase1", "new\x1b[31m", "file_id"],
    }


def test_another_layout_of_the_same_values_is_no_edit(folder):
    (folder / "pipeline.json").write_text(json.dumps(dict(reversed(DOCUMENT.items()))))

    assert rows(run("status", cwd=folder).out)["file"] == "as in that version"


@pytest.mark.parametrize(("content", "file"), [(None, "gone"), ('{"a": 1', "damaged")])
def test_where_the_file_cannot_be_used_the_rest_is_shown(content, file, folder):
    path = folder / "pipeline.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)

    done = run("status", cwd=folder, check=False)
    told = rows(done.out)
    assert done.status == 15
    assert told["version"].startswith("2 (")
    assert told["file"] == file
    assert told["lock"] == "free"
    assert done.err.startswith("error: the state file ")
    assert "hint: gitstate restore HEAD" in done.err
    done = run("status", "--json", cwd=folder, check=False)
    assert done.status == done.error["status"] == 15
    assert done.document["file"]["status"] == file
    assert done.document["phases"] is None
    assert done.document["head"]["serial"] == 2
    assert done.document["untold"] == ["state"]


def test_where_the_history_is_damaged_the_phases_are_shown(folder):
    for pack in (folder / ".pipeline/repo/objects/pack").iterdir():
        pack.write_bytes(b"")
    shutil.rmtree(folder / ".pipeline/repo/objects")
    (folder / "pipeline.json.lock").unlink()
    (folder / "pipeline.json.lock").symlink_to("nowhere")
    (folder / ".pipeline/remotes.json").write_text("{")

    done = run("status", cwd=folder, check=False)
    told = rows(done.out)
    assert done.status == 15
    assert told["version"] == "cannot be told"
    assert told["file"] == "cannot be compared with its versions"
    assert told["lock"] == "cannot be told"
    assert "warning: the list of remotes cannot be read" in done.err
    assert told["phase2"].split() == ["failed", "2"]
    assert "\nerror: " in done.err


def test_a_file_that_gitstate_never_wrote_and_a_free_form(tmp_path):
    (tmp_path / "pipeline.json").write_text(json.dumps(dict.fromkeys(map(str, range(1000)), 1)))

    said = run("status", cwd=tmp_path, env={"COLUMNS": "80"})
    told = rows(said.out)
    assert told["version"] == "none yet: gitstate has not written here"
    assert told["file"] == "in no version yet"
    assert told["keys"].startswith("0, 1, 2, ")
    assert told["keys"].endswith(" more")
    assert all(len(line) <= 80 for line in said.out.splitlines()[1:])
    assert run("status", "--json", cwd=tmp_path).document["file"]["status"] == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["pipeline.json"]


def test_nothing_that_a_phase_holds_is_too_odd_to_be_shown(tmp_path):
    durations = [-1, 1e300, 10**400, True, "\x1b[2J", [1] * 100, None]
    phases = {f"phase{n}": {"duration": each} for n, each in enumerate(durations)}
    phases["phase0"]["status"] = {"a": list(range(100))}
    (tmp_path / "pipeline.json").write_text(json.dumps({**phases, "file_id": {"b": 1}}))

    said = run("status", cwd=tmp_path).out
    assert "\x1b" not in said
    assert rows(said)["phase0"].startswith("{1 key}")
    assert "[100 items]" in said


def test_each_remote_is_shown_as_it_was_seen_last(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    subprocess.run(["git", "init", "-q", "--bare", elsewhere / "r.git"], check=True)
    state = PipelineState(folder / "pipeline.json")
    state.remotes.add("origin", elsewhere / "r.git")
    state.push()
    state.write({**DOCUMENT, "phase3": {}})
    state.remotes.add("lost", elsewhere / "nothing.git")
    with pytest.raises(StateRemoteError):
        state.push("lost")

    said = run("status", cwd=folder, env={"COLUMNS": "80"}).out
    told = rows(said)
    assert told["origin"].startswith("1 ahead")
    assert "3 ahead, failed  never" in said
    assert told["origin"].split()[:2] == run("remote", cwd=folder).out.split("\n")[2].split()[2:4]
    assert said.splitlines()[-1].startswith("lost: there is no folder at ")
    assert all(len(line) <= 80 for line in said.splitlines()[1:])
    origin = run("status", "--json", cwd=folder).document["remotes"][1]
    assert origin["ahead"] == 1
    assert origin["last_push"].endswith("Z")
    assert origin["last_error"] is None


@forks
def test_who_holds_the_lock_is_told_by_lock_and_status_and_unlock_refuses(folder):
    before = (folder / "pipeline.json.lock").stat().st_ino
    with PipelineState(folder / "pipeline.json").transaction(operation="long\x1b work"):
        done = run("lock", cwd=folder, check=False)
        assert done.status == 11
        assert done.out.startswith(f"held by pid {os.getpid()} on {host()}: long\\x1b work, for ")
        assert done.err == ""
        assert ", since 20" in run("lock", "-v", cwd=folder, check=False).out
        done = run("lock", "--json", cwd=folder, check=False)
        assert done.status == 11
        assert done.document["lock"]["pid"] == os.getpid()
        assert rows(run("status", cwd=folder).out)["lock"].startswith("held by pid ")
        assert "it lives" in refused(11, "unlock", "--yes", cwd=folder)
        assert "it lives" in refused(11, "unlock", "--dry-run", cwd=folder)

    assert run("lock", cwd=folder).out == "free\n"
    assert run("lock", "--json", cwd=folder).document == {"lock": None}
    assert "nothing to do" in run("unlock", cwd=folder).err
    assert (folder / "pipeline.json.lock").stat().st_ino == before


def test_the_loop_that_waits_for_the_lock_ends_where_there_is_no_state(tmp_path):
    told = run("lock", "--help", cwd=tmp_path).out
    loop = next(line for line in told.splitlines() if "sleep" in line)
    path = f"{installed(tmp_path)}{os.pathsep}{os.environ['PATH']}"

    subprocess.run(
        ["sh", "-c", loop],
        cwd=tmp_path,
        env=environment(PATH=path),
        stderr=subprocess.DEVNULL,
        timeout=20,
        check=True,
    )


@pytest.fixture
def left(folder: Path) -> Iterator[int]:
    """A holder that is gone, and has left a program that keeps the lock."""
    with outlived_lock(folder / "pipeline.json") as pid:
        yield pid


@forks
def test_a_lock_that_has_outlived_its_holder_is_freed_by_who_says_yes(folder, left):
    assert run("lock", cwd=folder, check=False).status == 11
    assert f"would take the lock from pid {left} " in run("unlock", "--dry-run", cwd=folder).err
    assert "--yes" in refused(2, "unlock", cwd=folder)
    assert run("lock", cwd=folder, check=False).status == 11

    document = run("unlock", "--yes", "--json", cwd=folder).document
    assert document["unlocked"]["pid"] == left
    assert run("lock", cwd=folder).out == "free\n"
