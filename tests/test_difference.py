"""Difference: which entries of two encoded documents differ, against a plain comparison of the documents."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gitstate import codec
from gitstate.difference import Difference

pytestmark = pytest.mark.usefixtures("of_any_size")

AWKWARD_KEYS = st.sampled_from(
    ["", "a", "b", '"', '\\"', ',\n  "', ',\n    "', "{", "é\u2028", "\x00"]
)
LEAVES = st.sampled_from(
    [0, 1, 1.0, True, None, "", "1", '\n  "a": 1', [], {}, [1], [{"a": 1}, "b"]]
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.dictionaries(AWKWARD_KEYS, inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=20,
)
DOCUMENTS = st.dictionaries(AWKWARD_KEYS, VALUES, max_size=6)
PHASES = {
    "phase1": {"status": "success", "files": {"a": {"hash": "1"}, "b": {"hash": "2"}}},
    "phase2": {"status": "running", "files": {"a": {"size": 1}, "b": {"size": 2, "more": [1]}}},
}


def difference(old: dict[str, Any], new: dict[str, Any]) -> Difference:
    return Difference(codec.encode(old), codec.encode(new))


def same(left: object, right: object) -> bool:
    return repr(left) == repr(
        right
    )  # unlike ==, it tells 1 from 1.0 and from True, and sees the order


def naive_keys(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    changed = [key for key in new if key not in old or not same(old[key], new[key])]
    return changed + [key for key in old if key not in new]


def value_at(document: dict[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = document
    for key in path:
        value = value[key]
    return value


def without(document: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """A copy with nothing but a mark at `path`."""
    copy = codec.decode(codec.encode(document))
    value_at(copy, path[:-1])[path[-1]] = "mark"
    return copy


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A document, and the same with a few values set or removed somewhere inside."""
    old = draw(DOCUMENTS)
    new = codec.decode(codec.encode(old))
    for _ in range(draw(st.integers(0, 3))):
        inside = new
        while True:
            deeper = [value for value in inside.values() if isinstance(value, dict) and value]
            if not deeper or draw(st.booleans()):
                break
            inside = draw(st.sampled_from(deeper))
        key = draw(AWKWARD_KEYS)
        if draw(st.booleans()):
            inside.pop(key, None)
        else:
            inside[key] = draw(VALUES)
    return old, new


@given(st.tuples(DOCUMENTS, DOCUMENTS) | neighbours())
@example(({"a": 1}, {"b": 0, "a": 1}))
@example(({"a": 1, "b": 2}, {"b": 2, "a": 1}))
@example(({}, {"a": {}}))
@example(({"a": {"a": 1}}, {"a": {}}))
def test_the_keys_are_those_that_a_plain_comparison_finds(pair):
    old, new = pair

    assert difference(old, new).keys == naive_keys(old, new)


@given(st.tuples(DOCUMENTS, DOCUMENTS) | neighbours())
@example(({"a": {"b": 1, "a": 1}}, {"a": {"a": 1, "b": 1}}))
@example(({"a": {"a": {"a": 1}}}, {"a": {"a": {"b": 1, "a": 1}}}))
@example(({"a": {"a": {"a": 1}}}, {"a": {"a": {"a": 1}, "b": {"a": 1}}}))
@example(({"a": {"a": {"a": 1}}}, {"a": {"a": {"a": 1}}, "b": {"a": {"a": 1}}}))
def test_nothing_differs_outside_of_the_path(pair):
    old, new = pair

    found = difference(old, new)

    if found.path:
        assert not same(value_at(old, found.path), value_at(new, found.path))
        assert same(without(old, found.path), without(new, found.path))
        assert same(value_at(found.part_of(new), found.path), value_at(new, found.path))
    else:
        assert same(found.part_of(new), {key: new[key] for key in found.keys if key in new})


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (
            lambda phases: phases["phase2"]["files"]["b"].update(size=5),
            ("phase2", "files", "b", "size"),
        ),
        (
            lambda phases: phases["phase2"]["files"]["b"]["more"].append(2),
            ("phase2", "files", "b", "more"),
        ),
        (lambda phases: phases["phase2"].update(status="success"), ("phase2", "status")),
        (lambda phases: phases["phase1"]["files"].update(c={}), ("phase1", "files")),
        (lambda phases: phases["phase1"]["files"].pop("a"), ("phase1", "files")),
        (lambda phases: phases["phase1"]["files"].pop("b"), ("phase1", "files")),
        (lambda phases: phases.pop("phase2"), ()),
        (lambda phases: phases["phase1"].update(errors=[]), ("phase1",)),
        (lambda phases: phases["phase1"].update(status=None, files={}), ("phase1",)),
        (lambda phases: phases.update(phase3={}), ()),
        (lambda phases: [phases[name].clear() for name in phases], ()),
    ],
)
def test_the_path_leads_as_far_as_everything_that_differs_is_together(change, path):
    new = codec.decode(codec.encode(PHASES))
    change(new)

    assert difference(PHASES, new).path == path


def test_the_part_holds_what_differs_in_the_objects_that_it_stands_in():
    new = codec.decode(codec.encode(PHASES))
    new["phase2"]["files"]["b"]["more"].append(2)

    assert difference(PHASES, new).part_of(new) == {"phase2": {"files": {"b": {"more": [1, 2]}}}}


def test_nothing_differs_when_only_the_order_of_the_keys_does():
    old, new = {"a": 1, "b": 2}, {"b": 2, "a": 1}

    assert difference(old, new).keys == []
    assert difference(old, new).part_of(new) == {}


def test_one_and_one_point_nought_and_true_are_told_apart():
    assert difference({"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 1.0, "c": True}).keys == ["b", "c"]
