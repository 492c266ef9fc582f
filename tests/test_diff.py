"""Diff: the changes lead from one document to the other, types told apart, and as RFC 6902 anybody can apply them."""

import copy
import json
import math
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstate import MISSING, Change, pointer
from gitstate.diff import diff, same, to_json_patch

SCALARS = st.sampled_from([0, 1, 1.0, True, False, None, "", "a", "1", 0.0, -0.0, 10**30, 1e30])
KEYS = st.sampled_from(["a", "b", "", "/", "~", "~1", "a/b", "0", "-", "é"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=5)


def as_text(value: object) -> str:
    """JSON text tells 1, 1.0, true and -0.0 apart; the order of an object's keys says nothing."""
    return json.dumps(value, sort_keys=True)


def apply(patch: list[dict[str, Any]], document: object) -> object:
    """RFC 6902, as far as `add`, `remove` and `replace` go; strict about what must exist."""
    root = {"": copy.deepcopy(document)}
    for operation in patch:
        assert set(operation) == {"op", "path"} | (
            {"value"} - {"value"} if operation["op"] == "remove" else {"value"}
        )
        *way, last = ["", *pointer.split(operation["path"])]
        parent: Any = root
        for part in way:
            parent = parent[int(part)] if isinstance(parent, list) else parent[part]
        if isinstance(parent, list):
            apply_to_array(operation, parent, int(last))
        else:
            apply_to_object(operation, parent, last)
    return root[""]


def apply_to_object(operation: dict[str, Any], target: dict[str, Any], key: str) -> None:
    match operation["op"]:
        case "add":
            assert key not in target
            target[key] = operation["value"]
        case "replace":
            assert key in target
            target[key] = operation["value"]
        case "remove":
            del target[key]


def apply_to_array(operation: dict[str, Any], target: list[Any], index: int) -> None:
    match operation["op"]:
        case "add":
            assert 0 <= index <= len(target)
            target.insert(index, operation["value"])
        case "replace":
            assert 0 <= index < len(target)
            target[index] = operation["value"]
        case "remove":
            assert 0 <= index < len(target)
            del target[index]


@given(DOCUMENTS, DOCUMENTS)
def test_applying_the_patch_to_the_old_document_gives_the_new_one(old, new):
    patch = json.loads(json.dumps(to_json_patch(diff(old, new))))

    assert as_text(apply(patch, old)) == as_text(new)


@given(VALUES, st.data())
def test_applying_the_patch_works_for_small_edits_of_lists_too(value, data):
    old = [value, *data.draw(st.lists(SCALARS, max_size=6))]
    new = list(old)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(new)))
        new[at : at + data.draw(st.integers(0, 2))] = data.draw(st.lists(SCALARS, max_size=2))

    patch = to_json_patch(diff({"x": old}, {"x": new}))

    assert as_text(apply(patch, {"x": old})) == as_text({"x": new})


@given(DOCUMENTS, DOCUMENTS)
def test_there_are_changes_exactly_where_the_documents_differ(old, new):
    assert (diff(old, new) == []) == (as_text(old) == as_text(new)) == same(old, new)


@given(DOCUMENTS, DOCUMENTS)
def test_every_change_says_what_was_there_before(old, new):
    document: object = old
    for change in diff(old, new):
        if change.op != "add":
            found: Any = document
            for part in pointer.split(change.pointer):
                found = found[int(part)] if isinstance(found, list) else found[part]
            assert as_text(found) == as_text(change.old)
        document = apply(to_json_patch([change]), document)
    assert as_text(document) == as_text(new)


@given(DOCUMENTS, DOCUMENTS)
def test_comparing_leaves_both_documents_as_they_were(old, new):
    before = as_text([old, new])

    to_json_patch(diff(old, new))

    assert as_text([old, new]) == before


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, []),
        ({}, {"a": None}, [Change("add", "/a", MISSING, None)]),
        ({"a": None}, {}, [Change("remove", "/a", None, MISSING)]),
        ({"a": None}, {"a": 0}, [Change("replace", "/a", None, 0)]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, [Change("replace", "/a/b/c", 1, 2)]),
        ({"a": {"b": 1}}, {"a": {}}, [Change("remove", "/a/b", 1, MISSING)]),
        ({"a": {}}, {"a": []}, [Change("replace", "/a", {}, [])]),
        ({"a/b": {"~": 1}}, {"a/b": {"~": 2}}, [Change("replace", "/a~1b/~0", 1, 2)]),
        ({"": 1}, {"": 2}, [Change("replace", "/", 1, 2)]),
        ({"a": [1, 2, 3]}, {"a": [1, 3]}, [Change("remove", "/a/1", 2, MISSING)]),
        ({"a": [1, 3]}, {"a": [1, 2, 3]}, [Change("add", "/a/1", MISSING, 2)]),
        ({"a": [1, 2]}, {"a": [1, 5]}, [Change("replace", "/a/1", 2, 5)]),
        (
            {"a": [1, 2, 3, 4]},
            {"a": [1]},
            [
                Change("remove", "/a/1", 2, MISSING),
                Change("remove", "/a/1", 3, MISSING),
                Change("remove", "/a/1", 4, MISSING),
            ],
        ),
        (
            {"a": []},
            {"a": [1, 2]},
            [Change("add", "/a/0", MISSING, 1), Change("add", "/a/1", MISSING, 2)],
        ),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, [Change("replace", "/a/0/b", 1, 2)]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
    ],
)
def test_examples(old, new, expected):
    assert diff(old, new) == expected


@pytest.mark.parametrize(
    ("old", "new"), [(1, 1.0), (1, True), (0, False), (1.0, True), (0.0, -0.0), ("1", 1), (None, 0)]
)
def test_values_that_python_finds_equal_are_told_apart(old, new):
    changes = diff({"a": [old]}, {"a": [new]})

    assert [(c.op, c.pointer) for c in changes] == [("replace", "/a/0")]
    assert type(changes[0].old) is type(old)
    assert type(changes[0].new) is type(new)
    assert not same(old, new)


def test_not_a_number_is_the_same_value_as_itself():
    assert diff({"a": math.nan}, {"a": float("nan")}) == []


def test_absent_is_not_null():
    assert to_json_patch(diff({}, {"a": None})) == [{"op": "add", "path": "/a", "value": None}]
    assert to_json_patch(diff({"a": 1}, {"a": None})) == [
        {"op": "replace", "path": "/a", "value": None}
    ]
    assert to_json_patch(diff({"a": None}, {})) == [{"op": "remove", "path": "/a"}]
    assert MISSING is not None
    assert repr(MISSING) == "MISSING"


def test_a_whole_value_of_another_kind_is_replaced_at_the_top():
    assert diff([1], {"a": 1}) == [Change("replace", "", [1], {"a": 1})]


def nested(innermost: object) -> object:
    """`innermost` below 199 levels of objects and arrays."""
    value = innermost
    for level in range(199):
        value = {"k": value} if level % 2 else [value]
    return value


def test_documents_as_deep_as_they_may_be_are_compared():
    changes = diff(nested(1), nested(2))

    assert [(c.op, c.pointer.count("/")) for c in changes] == [("replace", 199)]


def test_a_deep_call_stack_is_no_obstacle():
    def call(frames: int) -> list[Change]:
        return call(frames - 1) if frames else diff(nested(1), nested(2))

    assert len(call(sys.getrecursionlimit() // 2)) == 1


RECORDS = st.lists(
    st.fixed_dictionaries({"chunk_id": st.integers(0, 12), "v": SCALARS}),
    max_size=10,
    unique_by=lambda record: record["chunk_id"],
)


@given(RECORDS, RECORDS)
def test_lists_of_records_in_any_order_are_led_into_each_other(old, new):
    changes = diff({"x": old}, {"x": new})

    assert as_text(apply(to_json_patch(changes), {"x": old})) == as_text({"x": new})
    ids = {record["chunk_id"] for record in old}
    there = {record["chunk_id"] for record in new}
    # Nothing that is in both goes and comes back unless it has moved.
    if [r["chunk_id"] for r in old if r["chunk_id"] in there] == [
        r["chunk_id"] for r in new if r["chunk_id"] in ids
    ]:
        assert [c.op for c in changes].count("remove") == len(ids - there)
        assert [c.op for c in changes].count("add") == len(there - ids)


@given(
    *[
        st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from("abcdef"), "chunkId": st.integers(0, 6), "v": SCALARS},
                optional={"KEY": st.sampled_from(["x", "y", 1, 1.0, True])},
            ),
            max_size=6,
        )
    ]
    * 2
)
def test_records_that_several_keys_may_tell_apart_are_led_into_each_other(old, new):
    changes = diff({"x": old}, {"x": new})

    assert as_text(apply(to_json_patch(changes), {"x": old})) == as_text({"x": new})


@pytest.mark.parametrize(
    "key",
    [
        "id",
        "Id",
        "UUID",
        "chunk_id",
        "CHUNK_ID",
        "_id",
        "chunkId",
        "ChunkID",
        "Key",
        "name",
        "NAME",
    ],
)
def test_a_record_that_is_put_in_front_and_another_that_changes_are_two_changes(key):
    old = [{key: f"r{number}", "n": number} for number in range(1000)]
    new = [{key: "new", "n": -1}, *map(dict, old)]
    new[501]["n"] = "changed"

    assert diff({"x": old}, {"x": new}) == [
        Change("add", "/x/0", MISSING, {key: "new", "n": -1}),
        Change("replace", "/x/501/n", 500, "changed"),
    ]
    assert diff({"x": new}, {"x": old}) == [
        Change("remove", "/x/0", {key: "new", "n": -1}, MISSING),
        Change("replace", "/x/500/n", "changed", 500),
    ]


@pytest.mark.parametrize("key", ["paid", "GRID", "identity", "title"])
def test_what_only_ends_like_an_identity_is_none(key):
    old, new = [{key: 1}, {key: 2}], [{key: 3}, {key: 1}]

    assert [change.op for change in diff(old, new)] == ["replace", "replace"]


@pytest.mark.parametrize("name", ["name", "key"])
@pytest.mark.parametrize("identity", ["uuid", "chunk_id", "ChunkId"])
def test_an_identity_counts_for_more_than_a_name(name, identity):
    old = [{name: "a", identity: 1}, {name: "b", identity: 2}]
    new = [{name: "z", identity: 1}, {name: "b2", identity: 2}]

    assert diff(old, new) == [
        Change("replace", f"/0/{name}", "a", "z"),
        Change("replace", f"/1/{name}", "b", "b2"),
    ]


def test_a_record_that_moves_is_taken_out_and_put_in_and_the_others_stay():
    old = [{"id": number} for number in range(50)]
    moved = [*old[:10], *old[11:40], old[10], *old[40:]]

    assert diff({"x": old}, {"x": moved}) == [
        Change("remove", "/x/10", {"id": 10}, MISSING),
        Change("add", "/x/39", MISSING, {"id": 10}),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([{"id": 1, "n": 1}, {"id": 1, "n": 2}], [{"id": 1, "n": 3}, {"id": 1, "n": 4}]),
        ([{"id": 1, "n": 1}, {"n": 2}], [{"id": 2, "n": 1}, {"n": 3}]),
        ([{"id": 1, "n": 1}, {"id": True, "n": 2}], [{"id": 2, "n": 1}, {"id": 3, "n": 3}]),
        ([{"id": 1, "n": 1}, 7], [{"id": 2, "n": 1}, 8]),
        ([{"id": [1], "n": 1}, {"id": [2]}], [{"id": [3], "n": 1}, {"id": [4]}]),
    ],
)
def test_items_whose_identity_does_not_tell_them_apart_are_compared_where_they_stand(old, new):
    changes = diff({"x": old}, {"x": new})

    assert {change.op for change in changes} <= {"replace"}
    assert as_text(apply(to_json_patch(changes), {"x": old})) == as_text({"x": new})


def test_the_number_1_and_the_text_1_are_different_identities():
    old, new = [{"id": 1, "a": 1}, {"id": 2}], [{"id": "1", "a": 1}, {"id": 2, "b": 1}]

    assert [change.op for change in diff(old, new)] == ["add", "remove", "add"]


def test_a_deep_pile_of_lists_is_looked_into_once(monkeypatch):
    looks = 0

    def counting(old, new):
        nonlocal looks
        looks += 1
        return same(old, new)

    monkeypatch.setattr("gitstate.diff.same", counting)
    old, new = [*range(50)], [*range(49), "changed"]
    for _ in range(150):
        old, new = [old], [new]

    (change,) = diff({"x": old}, {"x": new})

    assert change.pointer == "/x" + "/0" * 150 + "/49"
    assert looks < 120
