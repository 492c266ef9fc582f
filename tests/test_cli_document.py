"""The verbs get, set and unset."""

import json
import re
from pathlib import Path

import pytest
from command import refused, run

from gitstate import PipelineState
from gitstate.cli.arguments.place import parts_of, put_at, value_of
from gitstate.cli.refusal import Refusal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state of two versions."""
    with PipelineState(tmp_path / "pipeline.json") as state:
        state.write({"phase1": {"status": "running"}, "list": [1, 2], "": {"a/b": None}})
        state.write({"phase1": {"status": "success"}, "list": [1, 2], "": {"a/b": None}})
    return tmp_path


def state(folder):
    return PipelineState(folder / "pipeline.json")


def messages(folder):
    return [version.message for version in state(folder).log()]


def test_get_writes_what_is_there_now_or_was_in_a_version(folder):
    assert run("get", cwd=folder).document == state(folder).read()
    assert run("get", "/phase1/status", "--at", "HEAD~1", cwd=folder).out == '"running"\n'
    assert run("get", "//a~1b", "--json", cwd=folder).out == "null\n"
    assert run("get", "-r", "/phase1/status", cwd=folder).out == "success\n"


@pytest.mark.parametrize("how", ["for people", "--json"])
def test_what_a_terminal_would_obey_is_escaped_and_still_json(how, folder):
    value = {"phase1": {"errors": ["\x1b[2J\x9b31m\x7f\u202e é\n"]}}
    state(folder).write(value)

    out = run("get", *["--json"][: how == "--json"], cwd=folder).out

    assert json.loads(out) == value
    assert not {"\x1b", "\x9b", "\x7f", "\u202e"} & set(out)
    assert "é" in out


def test_json_is_json_for_a_terminal_of_few_characters(folder):
    state(folder).write({"phase1": {"title": "é"}})

    out = run("get", cwd=folder, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}).out

    assert out.isascii()
    assert json.loads(out) == {"phase1": {"title": "é"}}


def test_get_says_what_there_is_instead(folder):
    assert "did you mean /phase1/status?" in refused(1, "get", "/phase1/statsu", cwd=folder)
    assert "there is /list/0, /list/1" in refused(1, "get", "/list/7", cwd=folder)
    assert "did you mean /phase1/status?" in refused(2, "get", "phase1.status", cwd=folder)


def test_set_puts_a_value_and_tells_what_changed(folder):
    done = run("set", "/phase1/status", '"failed"', "-m", "by hand", cwd=folder)
    assert done.out == ""
    assert '~ /phase1/status  "success" -> "failed"' in done.err
    assert "version 3" in done.err
    assert messages(folder)[0] == "by hand"

    document = run("set", "/list/-", "-", "--json", cwd=folder, given='{"x": [1.0]}').document
    assert document["version"]["serial"] == 4
    assert document["version"]["operation"] == "set"
    assert document["changes"] == [{"op": "add", "pointer": "/list/2", "new": {"x": [1.0]}}]


def test_set_takes_a_negative_number_and_no_option_that_there_is_not(folder):
    for typed, value in {"-1": -1, "-0.5": -0.5, "-1e3": -1e3}.items():
        run("set", "/list/0", typed, cwd=folder)
        assert state(folder).read()["list"][0] == value
    run("set", "-m", "-5", "/list/0", "-7", "--expect", "5", cwd=folder)
    assert messages(folder)[0] == "-5"
    run("set", "/list/0", "-m", "-6", "--string", "-7", cwd=folder)
    assert state(folder).read()["list"][0] == "-7"
    assert messages(folder)[0] == "-6"
    run("set", "/list/0", "--allow-nan", "--dry-run", "-Infinity", cwd=folder)
    run("set", "--", "/list/0", "-8", cwd=folder)

    before = state(folder).read()
    for wrong in ("--bogus", "-x", "-Inf"):
        assert "No such option" in refused(2, "set", "/list/0", wrong, cwd=folder)
    assert "'-1x' is not JSON" in refused(2, "set", "/list/0", "-1x", cwd=folder)
    refused(2, "set", "-1", "/list/0", cwd=folder)
    refused(2, "set", "/list/0", "-1", "-2", cwd=folder)
    assert state(folder).read() == before


def test_set_makes_objects_on_the_way_if_it_is_told_to(folder):
    said = refused(1, "set", "/new/a/b", "true", cwd=folder)
    assert "there is no /new/a" in said
    assert "--parents" in said

    run("set", "--parents", "--string", "/new/a/b", "true", cwd=folder)
    assert state(folder).read()["new"] == {"a": {"b": "true"}}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["/a", "hello"], 2, ["'hello' is not JSON", "--string"]),
        (["", "[]"], 14, ["must be a JSON object"]),
    ],
)
def test_what_cannot_be_set_is_told_and_changes_nothing(arguments, status, said, folder):
    before = (folder / "pipeline.json").read_bytes()

    told = refused(status, "set", *arguments, cwd=folder)

    assert all(each in told for each in said), told
    assert "--parents" not in told
    assert "restore" not in told
    assert (folder / "pipeline.json").read_bytes() == before


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ('{"b": 1, "b": 2}', "duplicate key"),
        ('{"b": 1}, "c": 2', "Extra data: line 1 column 9"),
        ('1, "b": 2', "is not JSON"),
        ("[1,\n2,", "line 2 column 3"),
        ("NaN", "is not JSON"),
        ("1e999", "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_typed_is_one_json_value(typed, said):
    with pytest.raises(Refusal, match=re.escape(said)) as caught:
        value_of(typed)
    assert caught.value.status == 2


def test_a_document_as_deep_as_a_state_may_be_can_be_typed():
    deep = '{"a":' * 199 + "{}" + "}" * 199

    assert value_of(deep) == json.loads(deep)


@pytest.mark.parametrize(
    ("place", "said", "hint"),
    [
        ("/list/3", "no /list/3", "there is /list/0, /list/1"),
        ("/list/x/y", "no /list/x/y", "there is /list/0, /list/1"),
        ("/status/x", "no /status/x", "nothing below /status"),
    ],
)
def test_parents_are_made_of_objects_alone(place, said, hint):
    document = {"list": [1, 2], "status": "success"}

    for parents in (False, True):
        with pytest.raises(Refusal, match=said) as caught:
            put_at(document, parts_of(place), 1, parents=parents)
        assert hint in caught.value.hint
        assert "--parents" not in caught.value.hint
    assert document == {"list": [1, 2], "status": "success"}


def test_a_dry_run_shows_what_would_be_and_changes_nothing(folder):
    before = (folder / "pipeline.json").read_bytes()

    assert run("set", "--dry-run", "/list/0", "7", cwd=folder).out == "~ /list/0  1 -> 7\n"
    assert run("unset", "--dry-run", "/list/0", "--json", cwd=folder).document == {
        "dry_run": True,
        "version": None,
        "changes": [{"op": "remove", "pointer": "/list/0", "old": 1}],
    }
    assert "version 1" in refused(13, "set", "--dry-run", "--expect", "1", "/a", "1", cwd=folder)

    assert (folder / "pipeline.json").read_bytes() == before
    assert len(messages(folder)) == 2


def test_unset_takes_away_what_is_there(folder):
    run("unset", "/list/0", "--expect", "HEAD", cwd=folder)
    assert state(folder).read()["list"] == [2]

    assert "there is /list/0" in refused(1, "unset", "/list/1", cwd=folder)
    assert "set '' '{}'" in refused(2, "unset", "", cwd=folder)
    error = run("unset", "/list", "--expect", "2", "--json", cwd=folder, check=False).error
    assert (error["code"], error["status"]) == ("stale", 13)
    assert state(folder).read()["list"] == [2]
