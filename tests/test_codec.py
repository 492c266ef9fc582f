"""Codec: what is read back equals what was written, and what cannot promise that is refused by its pointer."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import json
import math
import pathlib
import subprocess
import sys
import time
import tracemalloc
import types
import uuid
from typing import Any, NamedTuple
from unittest import mock

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstate import StateReadError, StateValidationError, codec

pytestmark = pytest.mark.usefixtures("of_any_size")

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**63, max_value=2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
DOCUMENTS = st.dictionaries(st.text(), VALUES, max_size=6)

AWKWARD_KEYS = st.sampled_from(["", "a", "b", '"', '\\"', ',\n  "', "{", "é\u2028", "a/~b", "\x00"])
SMALL_VALUES = st.sampled_from(
    [0, 1, 1.0, True, False, None, "", "1", [], {}, [1], {"a": 1, "b": 2}, {"b": 2, "a": 1}]
)
SMALL_DOCUMENTS = st.dictionaries(AWKWARD_KEYS, SMALL_VALUES, max_size=6)


class Colour(enum.StrEnum):
    RED = "red"


class OldColour(str, enum.Enum):  # noqa: UP042  both spellings are in use
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Plain(enum.Enum):
    ONE = 1


class Point(NamedTuple):
    x: int
    y: int


class Model(pydantic.BaseModel):
    x: int = 1


@dataclasses.dataclass
class Record:
    x: int = 1


@dataclasses.dataclass(eq=False)
class Rude:
    """Compares itself only with its own kind."""

    x: int = 1
    __hash__ = None

    def __eq__(self, other: "Rude") -> bool:
        return self.x == other.x


class Impostor:
    """Says that it equals anything."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return True


@dataclasses.dataclass(eq=False)
class ImpostorRecord:
    """The same, and can be serialised."""

    x: int = 1
    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return True


def nested(levels: int, kind: str, innermost: object) -> dict[str, Any]:
    """A document of `levels` levels around `innermost`, of arrays below the first one, or of objects."""
    value = innermost
    for _ in range(levels - 1):
        value = {"k": value} if kind == "objects" else [value]
    return {"k": value}


def refusal(document: object, *, allow_nan: bool = False) -> StateValidationError:
    with pytest.raises(StateValidationError) as caught:
        codec.encode(document, allow_nan=allow_nan)
    return caught.value


# -- writing -----------------------------------------------------------------------------------------------------------


@given(DOCUMENTS)
def test_what_is_read_back_equals_what_was_written(document):
    content = codec.encode(document)

    # repr tells 1, 1.0, True and -0.0 apart, and shows the order of the keys.
    assert repr(codec.decode(content)) == repr(document)
    assert repr(codec.decode_foreign(content)) == repr(document)


@given(DOCUMENTS)
def test_any_other_json_parser_reads_the_same_document(document):
    content = codec.encode(document)

    assert repr(json.loads(content.decode("utf-8"))) == repr(document)


@given(DOCUMENTS)
def test_the_same_document_has_the_same_content_whichever_way_it_is_encoded(document):
    # A subclass of dict takes the careful way, a plain dict the fast one.
    assert codec.encode(collections.OrderedDict(document)) == codec.encode(document)


def test_content_is_indented_utf8_in_key_order_with_a_newline_at_the_end():
    document = {"b": {"z": 1, "a": [1.5, None]}, "a": "é\u2028☃\n", "empty": [{}, []]}

    content = codec.encode(document)

    expected = (
        '{\n  "b": {\n    "z": 1,\n    "a": [\n      1.5,\n      null\n    ]\n  },\n'
        '  "a": "é\u2028☃\\n",\n  "empty": [\n    {},\n    []\n  ]\n}\n'
    )
    assert content == expected.encode()


def test_the_empty_document_has_content_too():
    assert codec.encode({}) == b"{}\n"
    assert codec.decode(b"{}\n") == {}


@pytest.mark.parametrize(
    "number",
    [2**53 + 1, 2**63, -(2**63) - 1, 2**64, 2**70, 10**400, 10**4300 - 1, -(10**4300) + 1],
    ids=lambda number: f"{number.bit_length()}-bits",
)
def test_an_integer_keeps_every_digit(number):
    content = codec.encode({"n": number})

    for decode in (codec.decode, codec.decode_foreign):
        read = decode(content)["n"]
        assert type(read) is int
        assert read == number


def test_an_integer_that_python_itself_would_not_read_back_is_refused():
    assert refusal({"n": [10**4300]}).pointer == "/n/0"


@pytest.mark.parametrize("number", [-0.0, 5e-324, 1.7976931348623157e308, 1e16, 1e22, 0.1 + 0.2])
def test_a_float_comes_back_bit_for_bit(number):
    read = codec.decode(codec.encode({"n": number}))["n"]

    assert read.hex() == number.hex()


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (Colour.RED, "red"),
        (OldColour.RED, "red"),
        (Level.HIGH, 3),
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (type("Text", (str,), {"__str__": lambda _: "lie"})("text"), "text"),
        (type("Number", (float,), {"__repr__": lambda _: "lie"})(1.5), 1.5),
        (type("Items", (list,), {})([1]), [1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_subclass_of_a_json_type_is_stored_as_the_plain_type(value, stored):
    document = codec.decode(codec.encode({"a": [value]}))

    assert document == {"a": [stored]}
    assert type(document["a"][0]) is type(stored)


def test_a_key_that_is_a_kind_of_string_is_stored_as_the_plain_string():
    document = codec.decode(codec.encode({Colour.RED: {OldColour.RED: 1}}))

    assert document == {"red": {"red": 1}}
    assert type(next(iter(document))) is str


def test_a_value_may_appear_in_several_places():
    shared = {"x": [1]}

    assert codec.decode(codec.encode({"a": shared, "b": [shared, shared]})) == {
        "a": shared,
        "b": [shared, shared],
    }


def test_encoding_leaves_the_document_as_it_was():
    document = {"a": (1, Colour.RED), "b": {"c": Point(1, 2)}}

    codec.encode(document)

    assert document["a"] == (1, Colour.RED)
    assert document["a"][1] is Colour.RED
    assert type(document["b"]["c"]) is Point


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("wrap", "at"),
    [
        (lambda value: {"a": value}, "/a"),
        (lambda value: {"a": [1, {"b": value}]}, "/a/1/b"),
        (lambda value: {"a": (1, value)}, "/a/1"),
        (lambda value: {"a/b": {"~": [value]}}, "/a~1b/~0/0"),
        (lambda value: collections.OrderedDict(a=value), "/a"),
    ],
    ids=["member", "deep", "tuple", "escaped", "subclass"],
)
def test_a_number_that_json_lacks_is_refused_by_its_pointer(value, wrap, at):
    error = refusal(wrap(value))

    assert error.pointer == at
    assert at in str(error)
    assert repr(value) in str(error)
    assert "allow_nan=True" in str(error)
    assert error.code == "not-json"


def test_allow_nan_lets_nan_and_infinities_pass_and_come_back():
    content = codec.encode({"a": [math.nan, {"b": math.inf}, -math.inf, 1.5]}, allow_nan=True)

    for decode in (codec.decode, codec.decode_foreign):
        assert repr(decode(content, allow_nan=True)) == "{'a': [nan, {'b': inf}, -inf, 1.5]}"
        with pytest.raises(StateReadError):
            decode(content)


def test_allow_nan_lets_nothing_else_pass():
    assert refusal({"a": [math.nan, {1}]}, allow_nan=True).pointer == "/a/1"


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        set(),
        frozenset("a"),
        b"bytes",
        bytearray(b"bytes"),
        memoryview(b"bytes"),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        dt.date(2026, 1, 1),
        dt.time(1, 2, tzinfo=dt.UTC),
        dt.timedelta(seconds=1),
        decimal.Decimal("1.5"),
        decimal.Decimal(1),
        fractions.Fraction(1, 2),
        1j,
        object(),
        Plain.ONE,
        Record(),
        Record,
        Model(),
        Rude(),
        Impostor(),
        ImpostorRecord(),
        uuid.UUID(int=1),
        pathlib.Path("a"),
        range(3),
        collections.deque([1]),
        collections.UserDict(a=1),
        types.MappingProxyType({"a": 1}),
        {"a": 1}.keys(),
        (n for n in [1]),
        len,
        NotImplemented,
        ...,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_of_another_type_is_refused_by_its_pointer(value):
    error = refusal({"a": [0, {"b": value}]})

    assert error.pointer == "/a/1/b"
    assert "/a/1/b" in str(error)
    assert type(value).__name__ in str(error)


@pytest.mark.parametrize("key", [1, 1.5, None, True, (1,), b"k", Plain.ONE], ids=repr)
def test_a_key_that_is_not_a_string_is_refused_by_the_pointer_of_its_object(key):
    error = refusal({"a": [{"k": 1, key: 0}]})

    assert error.pointer == "/a/0"
    assert "key" in str(error)


def test_two_keys_that_would_be_the_same_string_are_refused():
    class Other(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other

    assert refusal({"a": {Other("k"): 1, Other("k"): 2}}).pointer == "/a/k"


@pytest.mark.parametrize("text", [chr(0xD800), f"a{chr(0xDFFF)}b", chr(0xDC80)], ids=ascii)
def test_a_lone_surrogate_is_refused_in_values_and_in_keys(text):
    assert refusal({"a": ["", text]}).pointer == "/a/1"
    assert refusal({"a": {text: 1}}).pointer == "/a"


def test_a_surrogate_pair_in_two_halves_is_refused_and_the_character_itself_passes():
    assert refusal({"a": "\ud83d\ude00"}).pointer == "/a"
    assert codec.decode(codec.encode({"a": "\U0001f600"})) == {"a": "\U0001f600"}


def test_a_cycle_is_refused_where_it_closes():
    array: list[object] = [1]
    array.append(array)
    mapping: dict[str, object] = {}
    mapping["self"] = {"inner": [mapping]}
    through_tuple: list[object] = []
    through_tuple.append((through_tuple,))

    assert refusal({"a": array}).pointer == "/a/1"
    assert refusal(mapping).pointer == "/self/inner/0"
    assert refusal({"a": through_tuple}).pointer == "/a/0/0"


@pytest.mark.parametrize("kind", ["objects", "arrays"])
@pytest.mark.parametrize("innermost", [1, "text", None], ids=repr)
def test_exactly_200_levels_pass(kind, innermost):
    document = nested(200, kind, innermost)

    content = codec.encode(document)

    assert codec.decode(content) == document
    assert codec.decode_foreign(content) == document


@pytest.mark.parametrize("kind", ["objects", "arrays"])
@pytest.mark.parametrize("innermost", [{}, []], ids=repr)
def test_an_empty_innermost_container_is_a_level(kind, innermost):
    document = nested(199, kind, innermost)

    assert codec.decode(codec.encode(document)) == document

    error = refusal(nested(200, kind, innermost))
    assert error.pointer == "/k" + ("/k" if kind == "objects" else "/0") * 199
    assert "200 levels" in str(error)


@pytest.mark.parametrize("kind", ["objects", "arrays"])
@pytest.mark.parametrize("levels", [201, 999, 5_000, 100_000])
def test_more_than_200_levels_are_refused_however_many(kind, levels):
    document = nested(levels, kind, 1)

    try:
        assert refusal(document).pointer.count("/") == 200
    finally:
        # Python's own clean-up of so deep a value would recurse.
        value: Any = document
        while isinstance(value, dict | list) and value:
            _, value = value.popitem() if isinstance(value, dict) else (None, value.pop())


@pytest.mark.parametrize("document", [[], [1], "text", None, 1, (), {1}], ids=repr)
def test_only_an_object_can_be_a_state(document):
    error = refusal(document)

    assert error.pointer == ""
    assert "JSON object" in str(error)


def test_a_value_whose_repr_fails_is_still_refused_with_a_message():
    class Shy:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    assert "Shy" in str(refusal({"a": Shy()}))


def test_a_huge_value_is_shortened_in_the_message():
    assert len(str(refusal({"a": {"x" * 100_000}}))) < 500


# -- reading what somebody else wrote ----------------------------------------------------------------------------------


def foreign_refusal(content: bytes, *, allow_nan: bool = False) -> StateReadError:
    with pytest.raises(StateReadError) as caught:
        codec.decode_foreign(content, allow_nan=allow_nan)
    return caught.value


@given(DOCUMENTS, st.sampled_from([None, 0, 1, 3, "\t"]), st.booleans())
def test_any_layout_of_a_document_is_read(document, indent, ascii_only):
    content = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()

    assert repr(codec.decode_foreign(content)) == repr(document)


@pytest.mark.parametrize("content", [b'{"a":1}', b'\r\n{\t"a" :1\r\n}\r\n', b' {"a": 1} '])
def test_white_space_around_and_between_does_not_matter(content):
    assert codec.decode_foreign(content) == {"a": 1}


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "b": 2, "a": 1}',
        b'{"x": [{"y": {"a": 1, "a": 1}}]}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"": 1, "": 1}',
    ],
)
def test_a_duplicate_key_is_refused_wherever_it_is(content):
    error = foreign_refusal(content)

    assert error.code == "duplicate-key"
    assert "duplicate key" in str(error)


def test_a_key_that_is_there_twice_among_very_many_is_found_in_one_pass():
    keys = b", ".join(b'"%d": 1' % number for number in range(100_000))

    began = time.process_time()
    error = foreign_refusal(b'{%s, "99999": 2}' % keys)

    assert "duplicate key '99999'" in str(error)
    assert time.process_time() - began < 10


@given(DOCUMENTS, st.sampled_from([None, 2]), st.booleans(), st.sampled_from(["", "\n"]))
def test_what_gitstate_would_have_written_is_known(document, indent, ascii_only, end):
    content = (json.dumps(document, indent=indent, ensure_ascii=ascii_only) + end).encode()

    for much in (0, codec._MUCH):  # a small document counts as a large one, too
        with mock.patch.object(codec, "_MUCH", much):
            assert codec.is_own(content) == (codec.encode(codec.decode(content)) == content)
            assert codec.is_own(codec.encode(document))


def test_what_would_be_far_larger_if_it_were_indented_is_not_written_to_see_that():
    content = b'{"a": [' + (b"[" * 190 + b"1,1" + b"]" * 190 + b",") * 1000 + b"1]}"

    tracemalloc.start()
    assert not codec.is_own(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 100 * len(content)


def test_of_many_containers_few_are_under_way_at_a_time():
    content = b'{"a": [' + b"[]," * 100_000 + b"1]}"

    tracemalloc.start()
    codec.decode_foreign(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 70 * len(content)


@pytest.mark.parametrize("allow_nan", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]\n",
        b"{\n",
        b'{\n  "a": 1,\n  "a": 1\n}\n',
        b'{\n  "a": 1e400\n}\n',
        b'{\n  "a": -0\n}\n',
        b'{\n  "a": "\\ud800"\n}\n',
        b'{\n  "a": "\xff"\n}\n',
        b'{\n  "a": ' + b"9" * 4301 + b"\n}\n",
    ],
)
def test_what_the_careful_way_would_refuse_is_not_gitstates_own(content, allow_nan):
    assert not codec.is_own(content, allow_nan=allow_nan)


@pytest.mark.parametrize("depth", [199, 200, 201])
def test_what_is_too_deep_is_not_gitstates_own(depth):
    nested: Any = 1
    for _ in range(depth):
        nested = {"a": nested}
    content = json.dumps(nested, indent=2).encode() + b"\n"

    assert codec.is_own(content) == (depth < 200)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_is_gitstates_own_where_it_may_be(number):
    content = codec.encode({"a": number}, allow_nan=True)

    assert codec.is_own(content, allow_nan=True)
    assert not codec.is_own(content)


def test_the_same_key_in_two_objects_is_no_duplicate():
    assert codec.decode_foreign(b'{"a": {"a": [{"a": 1}, {"a": 1}]}}')


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"1" + b"0" * 400 + b".0"])
@pytest.mark.parametrize("allow_nan", [False, True])
def test_a_number_beyond_a_float_is_refused_and_never_becomes_infinity(number, allow_nan):
    foreign_refusal(b'{"a": [' + number + b"]}", allow_nan=allow_nan)


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity"])
def test_numbers_that_json_lacks_are_refused_unless_allowed(word):
    content = b'{"a": ' + word + b"}"

    foreign_refusal(content)
    assert repr(codec.decode_foreign(content, allow_nan=True)["a"]) in {"nan", "inf", "-inf"}


def test_an_integer_longer_than_python_reads_is_refused():
    foreign_refusal(b'{"a": ' + b"1" * 5000 + b"}")


def test_a_byte_order_mark_is_refused_by_name():
    assert "byte order mark" in str(foreign_refusal(b'\xef\xbb\xbf{"a": 1}'))


@pytest.mark.parametrize("content", [b"", b" \n\t"])
def test_an_empty_file_is_refused_by_name(content):
    assert "empty" in str(foreign_refusal(content))


def test_a_document_cut_anywhere_is_refused():
    content = codec.encode({"a": [1, "é", {"b": None}], "c": True}).rstrip()

    for length in range(len(content)):
        foreign_refusal(content[:length])


@pytest.mark.parametrize("content", [b"[]", b'[{"a": 1}]', b'"text"', b"1", b"null", b"true"])
def test_another_top_level_value_is_refused_by_name(content):
    error = foreign_refusal(content)

    assert error.code == "not-an-object"
    assert "not a JSON object" in str(error)


@pytest.mark.parametrize(
    "content", [b'{"a": "\xff"}', b'{"\xc3": 1}', b'{"a": "\xed\xa0\x80"}', b"\x80"]
)
def test_bytes_that_are_not_utf8_are_refused_by_their_place(content):
    error = foreign_refusal(content)

    assert "not UTF-8" in str(error)
    assert any(str(place) in str(error) for place in range(10))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_another_unicode_encoding_is_refused(encoding):
    foreign_refusal('{"a": 1}'.encode(encoding))


@pytest.mark.parametrize("levels", [201, 5_000, 200_000])
@pytest.mark.parametrize(
    ("start", "end"), [(b"[", b"]"), (b'{"k":', b"}")], ids=["arrays", "objects"]
)
def test_deep_nesting_is_refused_however_deep(levels, start, end):
    foreign_refusal(b'{"k":' + start * (levels - 1) + b"1" + end * (levels - 1) + b"}")


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": "\\ud800"}',
        b'{"\\udc00": 1}',
        b'{"a": 1,}',
        b"{'a': 1}",
        b"{a: 1}",
        b'{"a": 1} x',
        b'{"a": 1}{"b": 2}',
        b'{"a": 01}',
        b'{"a": 1.}',
        b'{"a": .5}',
        b'{"a": +1}',
        b'{"a": 0x1}',
        b'{"a": "\n"}',
        b'{"a": "\x00"}',
        b'{"a": "\\x41"}',
        b'{"a": undefined}',
        b'{"a": True}',
        b'// comment\n{"a": 1}',
        b'{"a": [1 2]}',
        b"\x00" * 100,
    ],
    ids=repr,
)
def test_what_is_almost_json_is_refused(content):
    foreign_refusal(content)


@given(
    st.binary(max_size=60)
    | st.text(alphabet='{}[]",:0123456789.eE+-\\u adtrufalsn\n').map(str.encode)
)
def test_any_bytes_are_a_document_or_a_typed_error(content):
    try:
        document = codec.decode_foreign(content)
    except StateReadError:
        return
    assert codec.decode(codec.encode(document)) == document


def test_bytes_are_refused_as_such_where_comparing_them_is_an_error():
    program = "from gitstate import StateValidationError, codec\n"
    program += "try:\n    codec.encode({'a': [b'x']})\nexcept StateValidationError as error:\n    print(error.pointer)"

    done = subprocess.run(
        [sys.executable, "-bb", "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "/a/0\n"
