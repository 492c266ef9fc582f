"""diff: what changed between two versions, and to the state file as it is."""

import json
from pathlib import Path

import pytest
from command import refused, run

from gitstate import PipelineState
from gitstate.cli.views.changes import lines_of
from gitstate.diff import diff


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three versions."""
    with PipelineState(tmp_path / "pipeline.json") as state:
        state.write({"phase1": {"status": "running"}})
        state.write({"phase1": {"status": "success"}, "phase2": {"metrics": {"a": 1}}})
        state.write({"phase1": {"status": "success"}, "phase2": {"metrics": {"a": 2}}})
    return tmp_path


def shown(old: object, new: object, width: int = 60, *, whole: bool = False) -> list[str]:
    """The lines that show the changes from one document to another."""
    return [line.plain.rstrip() for line in lines_of(diff(old, new), width, whole=whole)]


def test_without_names_it_is_what_the_newest_version_changed(folder):
    done = run("diff", cwd=folder)
    assert done.out == "~ /phase2/metrics/a  1 -> 2\n"
    assert "1 change from version 2" in done.err
    assert "edited" not in done.err

    (folder / "pipeline.json").write_text('{"phase1": {"status": "failed"}}')
    done = run("diff", cwd=folder)
    assert done.out == "~ /phase2/metrics/a  1 -> 2\n"
    assert "the file was edited since: gitstate diff HEAD" in done.err


def test_one_name_is_compared_with_the_state_as_it_is(folder):
    done = run("diff", "1", "--json", "--exit-code", cwd=folder, check=False)
    assert done.status == 3
    assert [done.document[end]["serial"] for end in ("from", "to")] == [1, 3]
    assert run("diff", "HEAD", "--exit-code", cwd=folder).out == ""

    (folder / "pipeline.json").write_text('{"phase1": {"status": "failed"}}')
    document = run("diff", "HEAD", "--json", cwd=folder).document
    assert document["to"] is None
    assert document["changes"][1] == {
        "op": "replace", "pointer": "/phase1/status", "old": "success", "new": "failed",
    }  # fmt: skip
    assert "the file, which was edited" in run("diff", "HEAD~1", cwd=folder).err


def test_two_names_a_pointer_and_a_patch(folder):
    out = run("diff", "1..2", cwd=folder).out.splitlines()
    assert out == [
        '~ /phase1/status  "running" -> "success"',
        '+ /phase2         {"metrics": {"a": 1}}',
    ]
    assert run("diff", "3", "1", "/phase2/metrics", cwd=folder).out == (
        '- /phase2/metrics  {"a": 2}\n'
    )
    assert json.loads(run("diff", "1", "3", "/phase2/metrics", "--json-patch", cwd=folder).out) == [
        {"op": "add", "path": "/phase2/metrics", "value": {"a": 2}}
    ]


def test_a_whole_value_is_for_the_terminal_to_wrap(folder):
    with PipelineState(folder / "pipeline.json") as state:
        state.write({"phase1": {"status": "success", "errors": ["e " * 200]}})

    out = run("diff", "HEAD~1..", "/phase1", "-v", cwd=folder, env={"COLUMNS": "40"}).out
    assert f'"{"e " * 200}"' in out


def test_what_cannot_be_compared_is_refused(folder):
    assert "two versions" in refused(2, "diff", "1", "2", "3", cwd=folder)
    assert "there is no /phase7" in refused(1, "diff", "1", "/phase7", cwd=folder)
    (folder / "pipeline.json").write_text("{")
    assert "gitstate restore HEAD" in refused(15, "diff", "1", cwd=folder)


def test_the_first_version_came_from_nothing_and_one_behind_pruned_ones_from_nobody_knows(tmp_path):
    with PipelineState(tmp_path / "pipeline.json", max_backups=0) as state:
        state.write({"phase1": {}})
    done = run("diff", cwd=tmp_path)
    assert done.out == "+ /phase1  {}\n"
    assert "from nothing" in done.err
    with state:
        state.write({"phase1": {"status": "running"}})
    assert "pruned" in refused(1, "diff", cwd=tmp_path)


def test_a_small_value_is_shown_entry_by_entry_and_a_large_one_counted():
    small = {"a": "x" * 40, "b": {str(n): n for n in range(50)}, "c": 1}
    assert shown({}, {"new": small}) == [
        "+ /new  {",
        '      "a": "' + "x" * 40 + '",',
        '      "b": {50 keys},',
        '      "c": 1',
        "    }",
    ]
    assert shown({"n": list(range(50))}, {}) == ["- /n  [50 items]"]
    assert shown({}, {"b": small["b"]}, whole=True)[:3] == [
        "+ /b  {",
        '      "0": 0,',
        '      "1": 1,',
    ]


def test_long_texts_are_shown_where_they_differ():
    old, new = "a" * 500 + "OLD" + "z" * 500, "a" * 500 + "NEW" + "z" * 500
    place, before, after = shown({"text": old}, {"text": new})
    assert place == "~ /text"
    assert before.strip().startswith("- ...aaa")
    assert "OLDzz" in before
    assert after.strip().startswith("+ ...aaa")
    assert "NEWzz" in after
    assert before.endswith("...")
    assert max(len(before), len(after)) <= 60
    assert shown({"text": old}, {"text": new}, whole=True)[1] == f'    - "{old}"'
    assert shown({"text": "x" * 80}, {"text": ["x"] * 80})[1:] == [
        "    - " + '"' + "x" * 49 + '..."',
        "    + [80 items]",
    ]
