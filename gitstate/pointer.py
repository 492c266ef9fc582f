"""RFC 6901 JSON pointers: how a place inside a document is written, what is there, and putting something there.

Source: RFC 6901, JavaScript Object Notation (JSON) Pointer.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


_NO_ESCAPE: Final = re.compile("~(?![01])")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")


def join(parts: Iterable[str | int]) -> str:
    """The pointer that leads through `parts`, each an object's key or an array's index; `""` for none."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def split(pointer: str) -> list[str]:
    """The unescaped parts of `pointer`.

    Raises:
        TypeError, ValueError: `pointer` is no text; or neither empty nor begins with a slash, or has a `~` without 0 or 1.
    """
    if not isinstance(pointer, str):
        raise TypeError(f"a JSON pointer is a str, not {pointer!r}")
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"a JSON pointer is empty or begins with '/', not {pointer!r}")
    if _NO_ESCAPE.search(pointer):
        raise ValueError(f"in a JSON pointer ~0 is '~' and ~1 is '/', not {pointer!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def get(document: Any, parts: Iterable[str]) -> Any:
    """The value to which the unescaped `parts` lead.

    Raises:
        LookupError: there is none.
    """
    for part in parts:
        document = document[_place(document, part)]
    return document


def put(document: Any, parts: Sequence[str], value: Any) -> None:
    """Puts `value` where `parts`, at least one of them, lead: over what is there, or at the end of an array.

    The end of an array is the index behind its last item, or `-`.

    Raises:
        LookupError: what it would be part of is not there; nothing was changed.
    """
    parent = get(document, parts[:-1])
    if isinstance(parent, list) and parts[-1] in ("-", str(len(parent))):
        parent.append(value)
    elif isinstance(parent, dict):
        parent[parts[-1]] = value
    else:
        parent[_place(parent, parts[-1])] = value


def insert(document: Any, parts: Sequence[str], value: Any) -> None:
    """As `put`, but what is at that index of an array, and behind it, moves up: the `add` of RFC 6902.

    Raises:
        LookupError: what it would be part of is not there; nothing was changed.
    """
    parent = get(document, parts[:-1])
    if isinstance(parent, list) and parts[-1] != "-":
        place = _place(parent, parts[-1])
        if int(place) > len(parent):
            raise LookupError(parts[-1])
        parent.insert(int(place), value)
    else:
        put(parent, parts[-1:], value)


def remove(document: Any, parts: Sequence[str]) -> None:
    """Removes the value to which `parts`, at least one of them, lead, if there is one."""
    with contextlib.suppress(LookupError):
        parent = get(document, parts[:-1])
        del parent[_place(parent, parts[-1])]


def _place(value: Any, part: str) -> str | int:
    """The key, or the index, that `part` is in `value`."""
    if isinstance(value, dict):
        return part
    if isinstance(value, list) and _INDEX.fullmatch(part):
        return int(part)
    raise LookupError(part)
