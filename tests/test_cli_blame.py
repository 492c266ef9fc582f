"""blame: which version each value comes from."""

import random
from pathlib import Path

import pytest
from command import refused, run

from gitstate import PipelineState
from gitstate.cli.answers.origins import origins
from gitstate.diff import same


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with five versions, of which the last three are kept; the file was edited since."""
    with PipelineState(tmp_path / "pipeline.json", max_backups=2, schema=None) as state:
        state.write({"old": 1, "list": [{"id": "b", "n": 1}], "phase": {"a": 1, "b": {"c": 1}}})
        state.write(state.read() | {"x": 1})
        with state.transaction() as txn:
            txn.data["phase"]["b"]["c"] = 2
        with state.transaction() as txn:
            txn.data["list"].insert(0, {"id": "a", "n": 1})
        with state.transaction() as txn:
            txn.data["list"][1]["n"] = 2
    return tmp_path


def test_each_key_has_the_version_that_last_changed_it(folder):
    out = [line.split() for line in run("blame", cwd=folder).out.splitlines()]
    assert [(row[0], row[-2], row[-1]) for row in out if row[-2] in {"/old", "/x"}] == [
        ("^3", "/old", "1"),
        ("^3", "/x", "1"),
    ]
    document = run("blame", "/phase", "--json", cwd=folder).document
    assert document["pointer"] == "/phase"
    # What the oldest that is kept has changed itself may as well be older: nobody can tell.
    rows = [(r["pointer"], r["version"]["serial"], r["boundary"]) for r in document["values"]]
    assert rows == [("/phase/a", 3, True), ("/phase/b", 3, True)]


def test_an_item_is_followed_to_where_it_stood_and_an_edit_has_no_version(folder):
    values = run("blame", "-r", "/list", "--json", cwd=folder).document["values"]
    rows = [(row["pointer"], row["version"]["serial"]) for row in values]
    assert rows == [("/list/0/id", 4), ("/list/0/n", 4), ("/list/1/id", 3), ("/list/1/n", 5)]

    file = folder / "pipeline.json"
    file.write_text(file.read_text().replace('"x": 1', '"x": "\\u001b[2J"'))
    lines = run("blame", cwd=folder).out.splitlines()
    assert next(line for line in lines if "/x" in line).startswith("not committed")
    assert not any("\x1b" in line for line in lines)
    edited = run("blame", "/x", "--json", cwd=folder).document["values"]
    assert edited == [{"pointer": "/x", "value": "\x1b[2J", "version": None, "boundary": False}]


def test_items_come_go_and_move_up_and_those_that_stay_are_as_old_as_they_are(tmp_path):
    with PipelineState(tmp_path / "pipeline.json", schema=None) as state:
        state.write({"list": [{"id": name, "tags": [1, 2, 3]} for name in "abcd"]})
        with state.transaction() as txn:
            del txn.data["list"][0]
            del txn.data["list"][1]
        with state.transaction() as txn:
            txn.data["list"][1]["tags"].remove(1)
            txn.data["list"].insert(1, {"id": "e"})
        newest, document = state.version("HEAD"), state.read()

    items = origins(state, newest, document, ["list"], leaves=False)
    assert [(item.value["id"], item.version.serial) for item in items] == [
        ("b", 1),
        ("e", 3),
        ("d", 3),
    ]
    tags = origins(state, newest, document, ["list", "2", "tags"], leaves=False)
    assert [(tag.value, tag.version.serial) for tag in tags] == [(2, 1), (3, 1)]


def test_what_is_not_there_is_refused(folder):
    assert "did you mean /phase?" in refused(1, "blame", "/phasee", cwd=folder)


def test_it_agrees_with_a_walk_that_compares_every_version(tmp_path):
    chance = random.Random(7)
    with PipelineState(tmp_path / "pipeline.json", schema=None) as state:
        for _ in range(60):
            with state.transaction() as txn:
                part = txn.data.setdefault(chance.choice("abc"), {})
                part[chance.choice("xyz")] = chance.choice([1, 1.0, True, None, "1", [1], {"k": 1}])
                if chance.random() < 0.3:
                    part.pop(chance.choice("xyz"), None)
        versions = list(state.log())
        document = state.read()
        for leaves in (False, True):
            for key in document:
                for origin in origins(state, versions[0], document, [key], leaves=leaves):
                    assert origin.version.serial == _oldest_with(versions, origin)


def _oldest_with(versions, origin):
    """The number of the oldest version since which the value has been what it is."""
    serial = None
    for version in versions:
        value = version.read()
        try:
            for part in origin.parts:
                value = value[int(part) if isinstance(value, list) else part]
        except (LookupError, TypeError, ValueError):
            break
        if not same(value, origin.value):
            break
        serial = version.serial
    return serial
