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
