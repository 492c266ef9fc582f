"""Pointer: the strings of RFC 6901, in and out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstate import pointer


@pytest.mark.parametrize(
    ("parts", "written"),
    [
        ([], ""),
        (["foo"], "/foo"),
        (["foo", 0], "/foo/0"),
        ([""], "/"),
        (["", ""], "//"),
        (["a/b"], "/a~1b"),
        (["c%d"], "/c%d"),
        (["e^f"], "/e^f"),
        (["g|h"], "/g|h"),
        (["i\\j"], "/i\\j"),
        (['k"l'], '/k"l'),
        ([" "], "/ "),
        (["m~n"], "/m~0n"),
        (["~1"], "/~01"),
        (["~0/~"], "/~00~1~0"),
    ],
)
def test_the_examples_of_the_rfc_are_written_and_read(parts, written):
    assert pointer.join(parts) == written
    assert pointer.split(written) == [str(part) for part in parts]


@given(st.lists(st.text() | st.integers(min_value=0)))
def test_splitting_gives_the_parts_that_were_joined(parts):
    assert pointer.split(pointer.join(parts)) == [str(part) for part in parts]


@given(
    st.lists(st.text(alphabet="~/01a"), max_size=3), st.lists(st.text(alphabet="~/01a"), max_size=3)
)
def test_two_places_never_have_the_same_pointer(one, other):
    assert (pointer.join(one) == pointer.join(other)) == (one == other)


@pytest.mark.parametrize("text", ["a", "a/b", " /a", "#/a", "~"])
def test_text_without_a_leading_slash_is_no_pointer(text):
    with pytest.raises(ValueError, match="begins with '/'"):
        pointer.split(text)


@pytest.mark.parametrize("text", ["/~", "/a~2b", "/a~/b", "/~~0"])
def test_a_tilde_that_escapes_nothing_is_no_pointer(text):
    with pytest.raises(ValueError, match="~0 is '~' and ~1 is '/'"):
        pointer.split(text)


DOCUMENT = {"a": {"b": [10, {"c": None}], "": 1, "0": 2}, "a/b": 3}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("", DOCUMENT),
        ("/a/b/0", 10),
        ("/a/b/1/c", None),
        ("/a/", 1),
        ("/a/0", 2),
        ("/a~1b", 3),
    ],
)
def test_a_pointer_leads_to_a_value(written, value):
    assert pointer.get(DOCUMENT, pointer.split(written)) is value


@pytest.mark.parametrize(
    "written",
    ["/b", "/a/b/2", "/a/b/-1", "/a/b/01", "/a/b/-", "/a/b/one", "/a/b/0/c", "/a/b/\u0661"],
)
def test_where_a_pointer_leads_to_nothing_that_is_a_lookup_error(written):
    with pytest.raises(LookupError):
        pointer.get(DOCUMENT, pointer.split(written))


@pytest.mark.parametrize(
    ("written", "after"),
    [
        ("/new", {"list": [1, {"x": 2}], "new": "put"}),
        ("/list", {"list": "put"}),
        ("/list/0", {"list": ["put", {"x": 2}]}),
        ("/list/2", {"list": [1, {"x": 2}, "put"]}),
        ("/list/-", {"list": [1, {"x": 2}, "put"]}),
        ("/list/1/x", {"list": [1, {"x": "put"}]}),
    ],
)
def test_a_value_is_put_over_another_or_at_the_end(written, after):
    document = {"list": [1, {"x": 2}]}

    pointer.put(document, pointer.split(written), "put")

    assert document == after


@pytest.mark.parametrize("written", ["/list/3", "/gone/x", "/list/0/x"])
def test_nothing_is_put_where_there_is_nothing_to_put_it_into(written):
    document = {"list": [1, {"x": 2}]}

    with pytest.raises(LookupError):
        pointer.put(document, pointer.split(written), "put")

    assert document == {"list": [1, {"x": 2}]}


def test_what_is_inserted_moves_up_what_is_there():
    document = {"list": [1, 2], "a": 1}

    for written in ("/list/0", "/list/3", "/list/-", "/a", "/b"):
        pointer.insert(document, pointer.split(written), "in")
    for written in ("/list/6", "/list/x", "/gone/x", "/a/b"):
        with pytest.raises(LookupError):
            pointer.insert(document, pointer.split(written), "in")

    assert document == {"list": ["in", 1, 2, "in", "in"], "a": "in", "b": "in"}


def test_what_is_not_there_is_removed_already():
    document = {"list": [1, {"x": 2}], "a": 1}

    for written in ("/gone", "/gone/x", "/list/7", "/a/b", "/list/0", "/list/0/x", "/a"):
        pointer.remove(document, pointer.split(written))

    assert document == {"list": [{}]}
