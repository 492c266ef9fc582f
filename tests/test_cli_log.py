"""log and show: versions in a list, and one of them with what it changed."""

import subprocess
from pathlib import Path

import pytest
from command import COMMAND, environment, refused, run

from gitstate import PipelineState


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with five versions; the third is called before-speech, the fourth is a long story."""
    with PipelineState(tmp_path / "pipeline.json") as state:
        state.write({"phase1": {"status": "running"}})
        state.write({"phase1": {"status": "success"}, "phase2": {}})
        with state.transaction(operation="chunking") as txn:
            txn.data["phase2"] = {"status": "running", "metrics": {"a": 1}}
        state.create_backup("before-speech")
        with state.transaction(operation="speech", message="m" * 300 + "\nmore of it") as txn:
            del txn.data["phase2"]["metrics"]
        state.undo()
    return tmp_path


@pytest.fixture
def pruned(tmp_path: Path) -> Path:
    """A folder with six versions, of which the last three are kept, and the first by its name."""
    with PipelineState(tmp_path / "pipeline.json", max_backups=2) as state:
        for number in range(6):
            state.write({"phase1": {"number": number}})
            if number == 0:
                state.create_backup("first")
    return tmp_path


def test_log_lists_versions_newest_first_with_names_messages_and_keys(folder):
    out = run("log", cwd=folder).out.splitlines()

    assert [line.split()[0] for line in out] == ["5", "4", "3", "2", "1"]
    state = PipelineState(folder / "pipeline.json")
    assert [line.split()[1] for line in out] == [version.short_id for version in state.log()]
    assert "undo" in out[0]
    assert "(HEAD) version 4" in out[0]
    assert "speech " in out[1]
    assert "m" * 300 in out[1]
    assert "more" not in out[1]
    # A message that says no more than the line does is left out.
    assert out[2].split()[-3:] == ["chunking", "(before-speech)", "phase2"]
    assert "ago" in out[3] or "now" in out[3]
    exactly = run("log", "-v", "-n", "1", cwd=folder).out
    moment = next(state.log(1)).timestamp.astimezone()
    assert moment.isoformat(sep=" ", timespec="milliseconds") in exactly


def test_log_fits_a_terminal_of_any_width(folder):
    lines = run("log", cwd=folder, env={"COLUMNS": "40"}).out.splitlines()
    assert len(lines) == 5  # they are cut, not wrapped
    assert max(map(len, lines)) <= 40
    assert lines[1].endswith("…")


def test_log_as_json_is_a_line_for_each_and_chosen_as_they_are_asked_for(folder):
    lines = run("log", "--json", "-p", "--reverse", "-n", "4", cwd=folder).lines
    assert [row["serial"] for row in lines] == [2, 3, 4, 5]
    assert [row["names"] for row in lines] == [[], ["before-speech"], [], []]
    assert lines[0]["changes"][1] == {"op": "add", "pointer": "/phase2", "new": {}}
    assert lines[0]["timestamp"].endswith("Z")

    times = ("--since", lines[1]["timestamp"], "--until", lines[3]["timestamp"])
    chosen = run("log", "--json", "--operation", "speech", *times, cwd=folder).lines
    assert [row["serial"] for row in chosen] == [4]
    none = run("log", "--until", "2d ago", cwd=folder)
    assert none.out == ""
    assert "no version" in none.err


def test_log_of_a_pointer_shows_the_value_after_each_change(folder):
    out = run("log", "/phase2/metrics", cwd=folder).out.splitlines()
    assert [line.split()[0] for line in out[::2]] == ["5", "4", "3"]
    assert [line.strip() for line in out[1::2]] == ['{"a": 1}', "removed", '{"a": 1}']

    lines = run("log", "/phase1/status", "--json", cwd=folder).lines
    assert [(row["serial"], row["value"]) for row in lines] == [(2, "success"), (1, "running")]


def test_log_with_patches_shows_what_each_changed_at_the_pointer_alone(folder):
    out = run("log", "-p", "/phase1", cwd=folder).out

    assert '~ /phase1/status  "running" -> "success"' in out
    assert "/phase2" not in "".join(line for line in out.splitlines() if line.startswith(" " * 4))


def test_log_draws_sizes_and_times(folder):
    out = run("log", "--graph", cwd=folder, env={"PYTHONIOENCODING": "utf-8"}).out.splitlines()
    assert max(line.count("█") for line in out) >= 8
    lines = run("log", "--graph", "--json", cwd=folder).lines
    assert lines[-1]["seconds"] is None
    assert lines[0]["seconds"] > 0
    assert lines[0]["size"] == len((folder / "pipeline.json").read_bytes())


def test_log_says_where_history_ends_and_where_there_is_none(pruned, tmp_path_factory):
    done = run("log", "-p", cwd=pruned)
    assert [line.split()[0] for line in done.out.splitlines() if line[0] != " "] == ["6", "5", "4"]
    assert "older than version 4 is pruned" in done.err
    assert "what it changed cannot be told" in done.out.splitlines()[-1]

    empty = tmp_path_factory.mktemp("empty")
    (empty / "pipeline.json").write_text("{}")
    done = run("log", cwd=empty)
    assert done.out == ""
    assert "no version yet" in done.err


def test_none_that_were_asked_for_are_no_news(folder):
    assert run("log", "-n", "0", cwd=folder) == (0, "", "")


def test_what_cannot_be_listed_is_refused(folder):
    said = refused(1, "log", "/phase1/statsu", cwd=folder)
    assert "there is no /phase1/statsu" in said
    assert "/phase1/status?" in said
    assert "begins with '/'" in refused(2, "log", "phase1", cwd=folder)
    assert "names no moment" in refused(2, "log", "--since", "999999999w", cwd=folder)


def test_log_into_a_closed_pipe_ends_at_once(folder):
    with subprocess.Popen(
        [*COMMAND, "log", "-p"], cwd=folder, env=environment(), stdout=-1, stderr=-1
    ) as process:
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 141
    assert said == b""


def test_show_tells_all_of_a_version(folder):
    state = PipelineState(folder / "pipeline.json")
    third = state.version(3)
    out = run("show", "before-speech", cwd=folder).out
    assert out.startswith(f"version 3  {third.id}  (before-speech)\n")
    for told in (third.author, "chunking", f"version 2 ({state.version(2).short_id})"):
        assert told in out
    assert "+ /phase2/status  " in out

    assert "    more of it\n" in run("show", "4", cwd=folder).out
    document = run("show", "1", "--json", cwd=folder).document
    assert document["serial"] == 1
    assert document["parents"] == []
    assert document["changes"] == [
        {"op": "add", "pointer": "/phase1", "new": {"status": "running"}}
    ]
    at = run("show", "--json", "HEAD~1", "/phase2/metrics", cwd=folder).document
    assert at["changes"] == [{"op": "remove", "pointer": "/phase2/metrics", "old": {"a": 1}}]


def test_show_says_what_it_cannot_tell(pruned):
    out = run("show", "first", cwd=pruned).out
    assert "none, it is the first" in out
    assert "+ /phase1" in out
    out = run("show", "4", cwd=pruned).out
    assert "pruned" in out
    assert "its keys: phase1" in out
    assert run("show", "4", "--json", cwd=pruned).document["changes"] is None

    assert "version 4 is kept" in refused(1, "show", "3", cwd=pruned)
    assert "gitstate diff A B" in refused(2, "show", "4", "5", cwd=pruned)
    assert "there is no /phase9" in refused(1, "show", "/phase9", cwd=pruned)


def test_nothing_of_a_message_or_a_key_takes_hold_of_the_terminal(tmp_path):
    state = PipelineState(tmp_path / "pipeline.json", schema=None)
    state.write({"\x1b[2J\n\x9b": "\u202e"}, operation="\x1b]0;o\x07", message="\x1b[31mred")

    for verb in ("log", "show"):
        out = run(verb, *(["-p"] if verb == "log" else []), cwd=tmp_path).out
        assert not {"\x1b", "\x9b", "\u202e", "\x07"} & {*out}
        assert "\\x1b[2J\\n\\x9b" in out
