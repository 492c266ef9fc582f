"""Patch: the examples of both RFCs, all or nothing, and what `diff` says leads from one document to the other."""

import copy
import json

import pytest
from hypothesis import given
from test_diff import DOCUMENTS, VALUES, as_text

from gitstate import StateConflictError, StateValidationError
from gitstate.diff import diff, to_json_patch
from gitstate.patch import apply_json_patch, apply_merge_patch

RFC_6902 = [
    # A.1 to A.7
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    (
        {"foo": ["bar", "baz"]},
        [{"op": "add", "path": "/foo/1", "value": "qux"}],
        {"foo": ["bar", "qux", "baz"]},
    ),
    ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    (
        {"baz": "qux", "foo": "bar"},
        [{"op": "replace", "path": "/baz", "value": "boo"}],
        {"baz": "boo", "foo": "bar"},
    ),
    (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    # A.8
    (
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [
            {"op": "test", "path": "/baz", "value": "qux"},
            {"op": "test", "path": "/foo/1", "value": 2},
        ],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    # A.10, A.11, A.14, A.16
    (
        {"foo": "bar"},
        [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    (
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
        {"foo": "bar", "baz": "qux"},
    ),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    (
        {"foo": ["bar"]},
        [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
        {"foo": ["bar", ["abc", "def"]]},
    ),
]

RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    # Section 3
    (
        {
            "title": "Goodbye!",
            "author": {"givenName": "John", "familyName": "Doe"},
            "tags": ["example", "sample"],
            "content": "This will be unchanged",
        },
        {
            "title": "Hello!",
            "phoneNumber": "+01-123-456-7890",
            "author": {"familyName": None},
            "tags": ["example"],
        },
        {
            "title": "Hello!",
            "author": {"givenName": "John"},
            "tags": ["example"],
            "content": "This will be unchanged",
            "phoneNumber": "+01-123-456-7890",
        },
    ),
]


@pytest.mark.parametrize(("document", "operations", "expected"), RFC_6902)
def test_the_examples_of_rfc_6902_apply(document, operations, expected):
    before = copy.deepcopy((document, operations))

    assert as_text(apply_json_patch(document, operations)) == as_text(expected)
    assert (document, operations) == before


@pytest.mark.parametrize(("document", "patch", "expected"), RFC_7396)
def test_the_examples_of_rfc_7396_apply(document, patch, expected):
    before = copy.deepcopy((document, patch))

    assert as_text(apply_merge_patch(document, patch)) == as_text(expected)
    assert (document, patch) == before


@pytest.mark.parametrize(
    ("document", "value"),
    [({"baz": "qux"}, "bar"), ({"baz": 10}, "10"), ({"baz": 1}, True), ({"baz": [1, 2]}, [1])],
)
def test_a_test_that_fails_is_a_conflict_and_names_the_operation(document, value):
    operations = [
        {"op": "add", "path": "/new", "value": 1},
        {"op": "test", "path": "/baz", "value": value},
    ]

    with pytest.raises(StateConflictError, match="operation 2, test /baz: there is") as caught:
        apply_json_patch(document, operations)
    assert caught.value.code == "patch-test"
    assert "new" not in document


def test_a_test_of_what_is_not_there_fails_too():
    with pytest.raises(StateConflictError, match="test /a/b: there is nothing, not null"):
        apply_json_patch({"a": 1}, [{"op": "test", "path": "/a/b", "value": None}])


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (10**20, 1e20), (0.0, -0.0), ({"a": [1], "b": 2}, {"b": 2.0, "a": [1.0]})],
)
def test_a_test_takes_numbers_for_their_size(one, other):
    assert apply_json_patch({"a": one}, [{"op": "test", "path": "/a", "value": other}])


@pytest.mark.parametrize(
    ("operation", "document"),
    [
        ({"op": "add", "path": "/baz/bat", "value": "qux"}, {"foo": "bar"}),  # A.12
        ({"op": "add", "path": "/foo/3", "value": 1}, {"foo": [1, 2]}),
        ({"op": "add", "path": "/foo/01", "value": 1}, {"foo": [1, 2]}),
        ({"op": "add", "path": "/foo/x", "value": 1}, {"foo": "bar"}),
        ({"op": "remove", "path": "/foo/2"}, {"foo": [1, 2]}),
        ({"op": "remove", "path": "/foo/-"}, {"foo": [1, 2]}),
        ({"op": "replace", "path": "/bar", "value": 1}, {"foo": 1}),
        ({"op": "replace", "path": "/foo/2", "value": 1}, {"foo": [1, 2]}),
        ({"op": "move", "from": "/bar", "path": "/foo"}, {"foo": 1}),
        ({"op": "copy", "from": "/bar", "path": "/foo"}, {"foo": 1}),
    ],
)
def test_a_place_that_is_not_there_is_named_with_the_operation(operation, document):
    operations = [{"op": "add", "path": "/new", "value": 1}, operation]

    with pytest.raises(StateValidationError, match="operation 2") as caught:
        apply_json_patch(document, operations)
    assert caught.value.code == "patch"
    assert caught.value.pointer == operation["path"]
    assert "new" not in document


@pytest.mark.parametrize(
    "operation",
    [
        None,
        [],
        {},
        {"path": "/a", "value": 1},
        {"op": "spam", "path": "/a", "value": 1},
        {"op": ["add"], "path": "/a", "value": 1},
        {"op": "add", "value": 1},
        {"op": "add", "path": "/a"},
        {"op": "add", "path": "a", "value": 1},
        {"op": "add", "path": None, "value": 1},
        {"op": "move", "path": "/a"},
        {"op": "copy", "path": "/b", "from": 1},
        {"op": "move", "from": "/a", "path": "/a/b"},
        {"op": "move", "from": "", "path": "/a"},
        {"op": "remove", "path": ""},
    ],
)
def test_what_is_no_operation_is_told_before_anything_is_tried(operation):
    fails = {"op": "test", "path": "/a", "value": 2}

    with pytest.raises(StateValidationError, match="operation 2: ") as caught:
        apply_json_patch({"a": {}}, [fails, operation])
    assert caught.value.code == "not-a-patch"


def test_what_is_no_array_is_no_json_patch():
    with pytest.raises(StateValidationError, match="an array of operations, not an object"):
        apply_json_patch({}, {"op": "add", "path": "/a", "value": 1})


def test_the_whole_document_is_a_place_like_any_other():
    assert apply_json_patch({"a": 1}, [{"op": "add", "path": "", "value": [2]}]) == [2]
    assert apply_json_patch({"a": [1]}, [{"op": "move", "from": "/a", "path": ""}]) == [1]
    copied = apply_json_patch({"a": 1}, [{"op": "copy", "from": "", "path": "/b"}])
    assert copied == {"a": 1, "b": {"a": 1}}


def test_what_is_moved_to_where_it_is_stays():
    moves = [{"op": "move", "from": path, "path": path} for path in ("/a", "/a/0", "")]

    assert apply_json_patch({"a": [1, 2]}, moves) == {"a": [1, 2]}


def test_nothing_is_shared_with_the_document_or_the_patch():
    document = {"a": {"b": [1]}}
    value = {"c": [1]}
    operations = [
        {"op": "add", "path": "/v", "value": value},
        {"op": "copy", "from": "/a", "path": "/copied"},
        {"op": "add", "path": "/copied/b/-", "value": 2},
        {"op": "replace", "path": "/w", "value": value},
    ]

    patched = apply_json_patch({**document, "w": 0}, operations)
    patched["v"]["c"].append(3)
    merged = apply_merge_patch(document, {"a": {"new": value["c"]}})
    merged["a"]["new"].append(3)
    merged["a"]["b"].append(3)

    assert patched["a"] == {"b": [1]}
    assert patched["w"] == {"c": [1]}
    assert (document, value) == ({"a": {"b": [1]}}, {"c": [1]})


def test_keys_are_added_in_the_order_of_the_patch():
    merged = apply_merge_patch({"x": 1}, {"b": {"z": 1, "y": 2}, "a": 1, "x": 2})

    assert json.dumps(merged) == '{"x": 2, "b": {"z": 1, "y": 2}, "a": 1}'


def depth(document):
    levels = 0
    while document:
        document, levels = next(reversed(document.values())), levels + 1
    return levels


def test_depth_is_no_limit():
    deep: dict[str, object] = {}
    for _ in range(5_000):
        deep = {"a": deep}
    path = "/a" * 5_000 + "/b"

    operations = [{"op": op, "path": path, "value": deep} for op in ("add", "test")]

    assert depth(apply_json_patch(deep, operations)) == 10_001
    assert depth(apply_merge_patch(deep, deep)) == 5_000


@given(DOCUMENTS, DOCUMENTS)
def test_what_diff_finds_leads_from_one_document_to_the_other(old, new):
    patch = to_json_patch(diff(old, new))

    assert as_text(apply_json_patch(old, patch)) == as_text(new)


@given(VALUES, VALUES)
def test_a_merge_patch_is_what_the_rfc_writes_of_it(document, patch):
    def merged(target, patch):
        if not isinstance(patch, dict):
            return patch
        target = dict(target) if isinstance(target, dict) else {}
        for name, value in patch.items():
            if value is None:
                target.pop(name, None)
            else:
                target[name] = merged(target.get(name), value)
        return target

    assert as_text(apply_merge_patch(document, patch)) == as_text(merged(document, patch))


@pytest.mark.parametrize(
    "operations",
    [
        {1, 2},
        b"[]",
        [b"x"],
        [{"op": b"add", "path": "/a"}],
        [{"op": "add", "path": b"/a", "value": 1}],
    ],
)
def test_what_is_no_json_at_all_is_no_patch(operations):
    with pytest.raises(StateValidationError) as caught:
        apply_json_patch({"a": 1}, operations)
    assert caught.value.code == "not-a-patch"
