"""Document <-> content: strict JSON in both directions, and the only encoder in the package.

A *document* is a dict of JSON's own types, *content* its bytes: RFC 8259, UTF-8, two-space indent, keys in their order,
a newline at the end. What is read back equals what was written; what cannot promise that is refused, with the pointer
of the value.
"""

from __future__ import annotations

import json
import marshal
import math
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic_core import PydanticSerializationError, from_json, to_json

from gitstate import pointer
from gitstate.difference import Difference
from gitstate.errors import Problem, StateReadError, StateValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH: Final = 200
"""Levels of objects and arrays. pydantic_core parses little more, json about 1,000, deepcopy 500 (PITFALLS J6)."""

MAX_INTEGER_DIGITS: Final = 4300
"""What the parser, and Python's own int(), read back by default."""

MAX_REMEMBERED: Final = 8 * 1024 * 1024
"""Bytes of content up to which a handle keeps the current state in memory, for the next transaction, or read."""

Document = dict[str, Any]
_Value = TypeVar("_Value")

_PLAIN: Final = frozenset({dict, list, str, int, float, bool, type(None)})
_SURELY_READ: Final = MAX_INTEGER_DIGITS * 3
"""Bits of an integer that has not too many digits."""

_MUCH: Final = 32 * 1024 * 1024
"""Bytes that may be written to see that they are too many."""

# In indented JSON a line this deep is the only place where the depth limit can be passed: no string holds a raw
# newline. Documents that come near it take the exact, slower walk.
_NEAR_MAX_DEPTH: Final = b"\n" + b"  " * MAX_DEPTH


def encode(document: object, *, allow_nan: bool = False) -> bytes:
    """The content of `document`.

    Subclasses of JSON's types are stored as the plain type, a tuple as a list. Integers keep every digit.

    Raises:
        StateValidationError: naming the JSON pointer of a value that is not JSON: NaN or an infinity (unless
            `allow_nan`), a key that is not a string, another type, a lone surrogate, a cycle, more than 200 levels.
    """
    return encoded(document, allow_nan=allow_nan).content


class Encoded:
    """A document as the encoder writes it.

    Attributes:
        content: the bytes.
        document: a copy of the document that shares nothing with it, None where that would have cost something.
        plain: whether what was encoded has JSON's own types only: as it is, it equals what the content is parsed to.
    """

    def __init__(
        self, content: bytes, document: Document | None = None, *, plain: bool = False
    ) -> None:
        self.content = content
        self.document = document
        self.plain = plain
        self._difference: Difference | None = None

    def difference(self, before: Encoded) -> Difference:
        """What differs from `before`; the last one is remembered."""
        found = self._difference
        if found is None or found.before is not before.content:
            self._difference = found = Difference(before.content, self.content)
        return found


def encoded(document: object, *, allow_nan: bool = False) -> Encoded:
    """As `encode`, with what it found out on the way.

    Raises:
        StateValidationError: as `encode`.
    """
    return _encoded_plain(document) or Encoded(_encode_checked(document, allow_nan=allow_nan))


def decode(content: bytes, *, allow_nan: bool = False) -> Document:
    """The document of `content` that gitstate wrote itself.

    Duplicate keys and numbers beyond a float's range are not looked for: our own encoder writes none. Bytes that
    anybody else may have written go through `decode_foreign`.

    Raises:
        StateReadError: not UTF-8, not JSON, not an object, too deep.
    """
    try:
        document = from_json(content, allow_inf_nan=allow_nan)
    except ValueError as error:
        raise StateReadError(
            f"not valid JSON: {_explain(content, error)}", code="not-json"
        ) from error
    if not isinstance(document, dict):
        raise StateReadError(
            f"the top level is {_type_name(document)}, not a JSON object", code="not-an-object"
        )
    return document


def decode_foreign(content: bytes, *, allow_nan: bool = False) -> Document:
    """The document of `content` that somebody else wrote, with every value checked.

    Raises:
        StateReadError: as `decode`, and for duplicate keys, numbers beyond a float's range and more than 200 levels.
    """
    document = decode(content, allow_nan=allow_nan)
    try:
        json.loads(content, object_pairs_hook=_members, parse_float=_number)
        _Walk(allow_nan=allow_nan).plain(document)
    except StateValidationError as error:
        raise StateReadError(str(error), code="not-json") from error
    except (ValueError, RecursionError) as error:
        raise StateReadError(f"not valid JSON: {error}", code="not-json") from error
    return document


def is_own(content: bytes, *, allow_nan: bool = False) -> bool:
    """Whether `content` is, byte by byte, what gitstate writes of the document that it holds.

    Then no key is there twice, and `decode_foreign` would find nothing wrong either, in ten times the time.
    """
    try:
        document = decode(content, allow_nan=allow_nan)
        # Indented, a few bytes can become very many.
        most = sum(map(content.count, (b",", b"[", b"{"))) * 2 * MAX_DEPTH
        if _NEAR_MAX_DEPTH in content or (
            most > _MUCH and not _is_indented(document, len(content))
        ):
            return False
        return to_json(document, indent=2) + b"\n" == content
    except (ValueError, StateReadError):
        return False


def is_document(content: bytes) -> bool:
    """Whether these bytes are a state; NaN and infinities in it are whoever reads it to judge."""
    try:
        decode_foreign(content, allow_nan=True)
    except StateReadError:
        return False
    return True


def _encoded_plain(document: object) -> Encoded | None:
    """What a document of plain JSON values encodes to; None where each value has to be looked at."""
    if type(document) is not dict:
        return None
    # marshal takes Python's own plain types and nothing else, so no value can lie about itself; of those, what is not
    # JSON comes back from the parser as something else (PITFALLS J1 to J5). Together that costs as much as a walk in
    # Python over all values, proves more, and makes the copy that is kept; of a large document none is. Only where it
    # fails a careful walk looks for the culprit.
    try:
        marshal.dumps(document)
        content = to_json(document, indent=2) + b"\n"
        if _NEAR_MAX_DEPTH in content:
            return None
        if len(content) > MAX_REMEMBERED:
            return Encoded(content, plain=True) if _is_plain(document) else None
        copy: Document = from_json(content, allow_inf_nan=False, cache_strings="keys")
        return Encoded(content, copy, plain=True) if copy == document else None
    except (ValueError, RecursionError, BytesWarning):  # the last one of `python -bb`
        return None


def _is_plain(document: Document) -> bool:
    """Whether all values are of JSON's own types, and such as can be read back.

    Level by level, each in a few passes in C: half the time of parsing it back, and no second document in memory.
    """
    dicts, lists = [document], list[list[Any]]()
    while dicts or lists:
        keys = set(map(type, chain.from_iterable(dicts)))
        level = [*chain.from_iterable(map(dict.values, dicts)), *chain.from_iterable(lists)]
        types = set(map(type, level))
        if not (keys <= {str} and types <= _PLAIN):
            return False
        bits = map(int.bit_length, _of_type(int, level, types))
        if max(bits, default=0) > _SURELY_READ:
            return False
        if not all(map(math.isfinite, _of_type(float, level, types))):
            return False
        dicts, lists = _of_type(dict, level, types), _of_type(list, level, types)
    return True


def _is_indented(document: Document, size: int) -> bool:
    """Whether no more than so many bytes stand in front of the lines of a document when it is written."""
    level: list[Any] = [document]
    indent = 0
    while level:
        indent += 2
        dicts = [value for value in level if type(value) is dict]
        lists = [value for value in level if type(value) is list]
        level = [*chain.from_iterable(map(dict.values, dicts)), *chain.from_iterable(lists)]
        size -= len(level) * indent
        if size < 0:
            return False
    return True


def _of_type(kind: type[_Value], level: list[Any], types: set[type]) -> list[_Value]:
    """The values of exactly this type in `level`, which has values of the `types`."""
    return [value for value in level if type(value) is kind] if kind in types else []


def _encode_checked(document: object, *, allow_nan: bool) -> bytes:
    if not isinstance(document, dict):
        raise _invalid("", "the state must be a JSON object (a dict)", document)
    plain = _Walk(allow_nan=allow_nan).plain(document)
    try:
        return to_json(plain, indent=2, inf_nan_mode="constants") + b"\n"
    except PydanticSerializationError as error:  # a value that lies about its own type
        raise _invalid("", f"the state cannot be written as JSON ({error})", document) from error


class _Walk:
    """One careful pass over a document, without recursion: the plain copy, or the first value that is not JSON.

    Of a large document, which anybody may have written, few containers are under way at a time.
    """

    def __init__(self, *, allow_nan: bool) -> None:
        self._allow_nan = allow_nan
        # Of each container that is under way the key, or index, that the walk is at; the first one is the root's.
        self._path: list[str | int] = []

    def plain(self, document: object) -> Any:
        """A copy of `document` in JSON's exact types."""
        root: list[Any] = [None]
        around: set[int] = set()
        self._path = [0]
        # The copy of each of these containers, what is left to copy, and the id of the container.
        frames: list[tuple[Any, Iterator[tuple[Any, object]], int]]
        frames = [(root, iter([(0, document)]), 0)]
        while frames:
            copy, items, own = frames[-1]
            for key, value in items:
                slot = self._key(key, copy) if isinstance(copy, dict) else key
                self._path[-1] = slot
                if isinstance(value, dict | list | tuple):
                    self._enter(value, around)
                    copy[slot] = {} if isinstance(value, dict) else [None] * len(value)
                    inside = dict.items(value) if isinstance(value, dict) else enumerate(value)
                    frames.append((copy[slot], iter(inside), id(value)))
                    self._path.append(0)
                    break
                copy[slot] = self._scalar(value)
            else:
                frames.pop()
                self._path.pop()
                around.discard(own)
        return root[0]

    def _enter(self, value: object, around: set[int]) -> None:
        """Counts a container among those around what comes next."""
        if id(value) in around:
            raise self._invalid("no value may contain itself", value)
        if len(around) >= MAX_DEPTH:
            raise self._invalid(f"at most {MAX_DEPTH} levels", value)
        around.add(id(value))

    def _key(self, key: object, siblings: dict[str, Any]) -> str:
        last = self._path.pop()  # what is wrong with a key is told of its container
        if not isinstance(key, str):
            raise self._invalid("every key must be a string", key)
        plain = self._text(key)
        self._path.append(last)
        if plain in siblings:
            self._path[-1] = plain
            raise self._invalid("two keys are the same string", key)
        return plain

    def _scalar(self, value: object) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            plain = int.__index__(value)
            if plain.bit_length() > _SURELY_READ and abs(plain) >= 10**MAX_INTEGER_DIGITS:
                raise self._invalid(f"an integer of at most {MAX_INTEGER_DIGITS} digits", "more")
            return plain
        if isinstance(value, float):
            number = float.__float__(value)
            if not self._allow_nan and not math.isfinite(number):
                raise self._invalid("a finite number (allow_nan=True lets it pass)", value)
            return number
        raise self._invalid("a JSON value (str, int, float, bool, None, list, dict)", value)

    def _text(self, value: str) -> str:
        plain = str.__str__(value)
        try:
            plain.encode()
        except UnicodeEncodeError as error:
            raise self._invalid("text without lone surrogates", value) from error
        return plain

    def _invalid(self, expected: str, value: object) -> StateValidationError:
        return _invalid(pointer.join(tuple(self._path[1:])), expected, value)


def shorten(value: object) -> str:
    """`value` in at most about 80 characters, for a message."""
    try:
        text = ascii(value) if isinstance(value, str) else repr(value)
    except Exception as error:  # noqa: BLE001  a stranger's __repr__ may raise anything
        text = f"<{type(value).__name__} whose repr fails: {type(error).__name__}>"
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text} ({_type_name(value)})"


def _invalid(at: str, expected: str, value: object) -> StateValidationError:
    problem = Problem(at, expected, shorten(value))
    return StateValidationError(
        f"cannot be stored as JSON {problem}. Nothing was changed.",
        problems=(problem,),
        code="not-json",
    )


def _type_name(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _members(pairs: list[tuple[str, Any]]) -> Document:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise StateReadError(f"duplicate key {twice!r}", code="duplicate-key")
    return seen


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise StateReadError(f"the number {text[:40]} is out of range", code="not-json")
    return value


def _explain(content: bytes, error: ValueError) -> str:
    if content.startswith(b"\xef\xbb\xbf"):
        return "it begins with a byte order mark"
    if not content.strip():
        return "it is empty"
    try:
        content.decode()
    except UnicodeDecodeError as wrong:
        return f"byte {wrong.start} is not UTF-8"
    return str(error)
