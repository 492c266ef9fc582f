"""What changed between two documents, as values rather than lines. Pure: documents in, changes out.

`1`, `1.0` and `true` are three different values, as they are three different texts in a file.
Source of the patch format: RFC 6902, JSON Patch.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from gitstate import pointer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING
"""Stands for "there is no value here", which `None` (JSON's null) does not say."""


_IDENTITIES: Final = ("id", "uuid")
_NAMES: Final = ("key", "name")
_ENDS_IN_ID: Final = re.compile(r"(?:_[iI]|[a-z0-9]I)[dD]\Z")
"""`chunk_id`, `CHUNK_ID`, `chunkId`, `ChunkID`; not `paid`."""

_MOST_IDENTITIES: Final = 4


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        op: `"add"`, `"remove"` or `"replace"`, as in RFC 6902.
        pointer: where, as an RFC 6901 pointer. Changes apply in their order: an index counts what the ones before left.
        old: the value before, `MISSING` for `"add"`.
        new: the value after, `MISSING` for `"remove"`.
    """

    op: Literal["add", "remove", "replace"]
    pointer: str
    old: Any
    new: Any


def find(document: Any, parts: Iterable[str]) -> Any:
    """The value to which the unescaped `parts` of a pointer lead, `MISSING` where there is none."""
    try:
        return pointer.get(document, parts)
    except LookupError:
        return MISSING


def same(old: object, new: object) -> bool:
    """Whether two JSON values are the same value, types told apart, the order of an object's keys not."""
    todo: list[tuple[object, object]] = [(old, new)]
    while (
        todo
    ):  # no recursion: a document may be 200 levels deep, and the caller's stack is unknown
        one, other = todo.pop()
        if type(one) is not type(other):
            return False
        if isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            todo.extend((value, other[key]) for key, value in one.items())
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            todo.extend(zip(one, other, strict=True))
        # repr tells -0.0 from 0.0 and finds NaN equal to NaN, which == does not.
        elif repr(one) != repr(other) if isinstance(one, float) else one != other:
            return False
    return True


def diff(old: object, new: object) -> list[Change]:
    """The changes that turn `old` into `new`, in an order in which they apply.

    The items of a list are compared by what they are called, not by where they stand, if they are objects with an `id`, a
    `uuid`, anything that ends in `_id` or `Id`, a `key`, or a `name`, that tells them apart: the first of these, in upper or
    lower case.
    """
    changes: list[Change] = []
    open_walks: list[Iterator[Change | _Pair]] = [iter([_Pair(old, new, ())])]
    while open_walks:
        found = next(open_walks[-1], None)
        if found is None:
            open_walks.pop()
        elif isinstance(found, Change):
            changes.append(found)
        elif isinstance(found.old, dict) and isinstance(found.new, dict):
            open_walks.append(_in_objects(found.old, found.new, found.at))
        elif isinstance(found.old, list) and isinstance(found.new, list):
            open_walks.append(_in_arrays(found.old, found.new, found.at))
        elif not same(found.old, found.new):
            changes.append(Change("replace", pointer.join(found.at), found.old, found.new))
    return changes


def to_json_patch(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """`changes` as an RFC 6902 JSON Patch, ready for `json.dumps`."""
    return [
        {"op": change.op, "path": change.pointer}
        | ({} if change.new is MISSING else {"value": change.new})
        for change in changes
    ]


class _Pair(NamedTuple):
    """Two values that stand at the same place."""

    old: Any
    new: Any
    at: tuple[str | int, ...]


def _in_objects(
    old: dict[str, Any], new: dict[str, Any], at: tuple[str | int, ...]
) -> Iterator[Change | _Pair]:
    for key, value in old.items():
        if key not in new:
            yield Change("remove", pointer.join((*at, key)), value, MISSING)
    for key, value in new.items():
        if key in old:
            yield _Pair(old[key], value, (*at, key))
        else:
            yield Change("add", pointer.join((*at, key)), MISSING, value)


def _in_arrays(
    old: list[Any], new: list[Any], at: tuple[str | int, ...]
) -> Iterator[Change | _Pair]:
    if len(old) == len(new) == 1:
        key = _identity(old, new)
        if key is None or old[0][key] == new[0][key]:
            yield _Pair(old[0], new[0], (*at, 0))  # looked into once, however deep it is
            return
    shorter = min(len(old), len(new))
    head = next((i for i in range(shorter) if not same(old[i], new[i])), shorter)
    tail = next(
        (i for i in range(shorter - head) if not same(old[-1 - i], new[-1 - i])), shorter - head
    )
    removed, added = old[head : len(old) - tail], new[head : len(new) - tail]
    identity = _identity(removed, added)
    if identity is not None:
        yield from _in_records(removed, added, identity, at, head)
        return
    both = min(len(removed), len(added))
    for index in range(both):
        yield _Pair(removed[index], added[index], (*at, head + index))
    for value in removed[both:]:
        # Every removal is at the same index: what follows moves up to it.
        yield Change("remove", pointer.join((*at, head + both)), value, MISSING)
    for index, value in enumerate(added[both:], head + both):
        yield Change("add", pointer.join((*at, index)), MISSING, value)


def _in_records(
    old: list[Any], new: list[Any], identity: str, at: tuple[str | int, ...], index: int
) -> Iterator[Change | _Pair]:
    """The changes between two lists of records; the first stands at `index` of the list that is `at` its place."""
    before = {record[identity]: number for number, record in enumerate(old)}
    staying = _longest_rise([before.get(record[identity], -1) for record in new])
    todo = iter(old)
    for record in new:
        stays = before.get(record[identity], -1) in staying
        if stays:
            # Those that stay are met in the order in which they stood: what comes before goes.
            for other in todo:
                if other[identity] == record[identity]:
                    yield _Pair(other, record, (*at, index))
                    break
                yield Change("remove", pointer.join((*at, index)), other, MISSING)
        else:
            yield Change("add", pointer.join((*at, index)), MISSING, record)
        index += 1
    for other in todo:
        yield Change("remove", pointer.join((*at, index)), other, MISSING)


def _identity(old: list[Any], new: list[Any]) -> str | None:
    """The key by whose values the items of both lists are told apart, None where there is none."""
    first = (old or new or [None])[0]
    if not (isinstance(first, dict) and old and new):
        return None
    named = [
        *(key for name in _IDENTITIES for key in first if key.lower() == name),
        *[key for key in first if _ENDS_IN_ID.search(key)][:_MOST_IDENTITIES],
        *(key for name in _NAMES for key in first if key.lower() == name),
    ]
    return next((key for key in named if _tells_apart(key, old) and _tells_apart(key, new)), None)


def _tells_apart(key: str, items: list[Any]) -> bool:
    seen: set[object] = set()
    for item in items:
        value = item.get(key) if isinstance(item, dict) else None
        if type(value) not in {str, int} or value in seen:
            return False
        seen.add(value)
    return True


def _longest_rise(numbers: list[int]) -> set[int]:
    """The longest selection of `numbers`, which are different but for negative ones, that rises; without these."""
    lasts: list[int] = []
    places: list[int] = []
    before: list[int | None] = []
    for place, number in enumerate(numbers):
        length = bisect_left(lasts, number)
        before.append(places[length - 1] if length else None)
        if number < 0:
            continue
        lasts[length : length + 1] = [number]
        places[length : length + 1] = [place]
    found: set[int] = set()
    at = places[-1] if places else None
    while at is not None:
        found.add(numbers[at])
        at = before[at]
    return found
