"""Where two documents differ, told from the bytes that our encoder made of them, without parsing either.

In indented JSON an entry of an object begins on a line of its own, and all lines of its value up to the closing brace
are indented deeper: no string holds a raw newline. So the keys that lead to a change stand in front of it.
"""

from __future__ import annotations

import json
import re
from functools import cache, cached_property
from typing import Any, Final

_REST_OF_KEY: Final = re.compile(rb'(?:[^"\\]|\\.)*"')
# bytes.split needs almost three times as long for this.
_ENTRY_SEPARATOR: Final = re.compile(rb',\n  "')


class Difference:
    """What differs between two contents.

    Attributes:
        before: the older one.
        now: the newer one.
    """

    def __init__(self, before: bytes, now: bytes) -> None:
        self.before = before
        self.now = now

    @cached_property
    def path(self) -> tuple[str, ...]:
        """The keys that lead to the innermost value, outside of lists, that everything which differs is part of."""
        before, now = self.before, self.now
        if before == now:
            return ()
        head = common_head(before, now)
        tail = common_tail(before, now, head)
        path: list[str] = []
        value = 0
        while True:
            begin = b"\n" + b"  " * (len(path) + 1) + b'"'
            start = now.rfind(begin, value, head)
            key = _REST_OF_KEY.match(now, start + len(begin), head) if start >= 0 else None
            # A line that is indented no deeper, and begins in what differs, is behind the end of the entry.
            shallow = _shallow(len(begin) - 2)
            if key is None or any(
                (found := shallow.search(whole, head, len(whole) - tail + len(begin) - 1))
                and found.start() < len(whole) - tail
                for whole in (before, now)
            ):
                return tuple(path)
            path.append(_text(key[0]))
            value = key.end() + len(b": ")
            if not now.startswith(b"{\n", value, head):
                return tuple(path)

    @cached_property
    def keys(self) -> list[str]:
        """The top-level keys whose values differ, in their order, then those that are gone."""
        if self.path:
            return [self.path[0]]
        old, new = _entries(self.before), _entries(self.now)
        changed = [key for key, entry in new.items() if old.get(key) != entry]
        return [_text(key) for key in (*changed, *(key for key in old if key not in new))]

    def part_of(self, document: dict[str, Any]) -> dict[str, Any]:
        """Those parts of the newer `document` that differ, each in the objects that it stands in."""
        if not self.path:
            return {key: document[key] for key in self.keys if key in document}
        value: Any = document
        for key in self.path:
            value = value[key]
        for key in reversed(self.path):
            value = {key: value}
        part: dict[str, Any] = value
        return part


def _entries(content: bytes) -> dict[bytes, bytes]:
    """The top-level entries by their keys, both as they are written but for the first quote."""
    body = content.strip()[len(b'{\n  "') : -len(b"\n}")]
    return {_key(entry): entry for entry in _ENTRY_SEPARATOR.split(body)} if body else {}


def _key(entry: bytes) -> bytes:
    found = _REST_OF_KEY.match(entry)
    if found is None:
        raise AssertionError(entry[:80])
    return found[0]


def _text(key: bytes) -> str:
    if b"\\" not in key:
        return key[:-1].decode()
    text: str = json.loads(b'"' + key)
    return text


@cache
def _shallow(spaces: int) -> re.Pattern[bytes]:
    """Finds a line that is indented by so many spaces at most."""
    return re.compile(rb"\n {0,%d}[^ ]" % spaces)


def common_head(left: bytes, right: bytes) -> int:
    """How many bytes both have in front. By halves: many at once compare some hundred times faster than single bytes."""
    same, end = 0, min(len(left), len(right))
    with memoryview(left) as view:  # slices of it are no copies
        while same < end:
            middle = (same + end + 1) // 2
            if right.startswith(view[same:middle], same):
                same = middle
            else:
                end = middle - 1
    return same


def common_tail(left: bytes, right: bytes, head: int) -> int:
    """How many bytes both have behind, beside the `head` bytes that they have in front."""
    same, end = 0, min(len(left), len(right)) - head
    with memoryview(left) as view:
        while same < end:
            middle = (same + end + 1) // 2
            piece = view[len(left) - middle : len(left) - same]
            if right.startswith(piece, len(right) - middle):
                same = middle
            else:
                end = middle - 1
    return same
