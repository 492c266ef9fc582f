"""RFC 6901 JSON pointers: how a place inside a document is written.

Source: RFC 6901, JavaScript Object Notation (JSON) Pointer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def join(parts: Iterable[str | int]) -> str:
    """The pointer that leads through `parts`, each an object's key or an array's index; `""` for none."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def split(pointer: str) -> list[str]:
    """The unescaped parts of `pointer`.

    Raises:
        ValueError: `pointer` is neither empty nor begins with a slash.
    """
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"a JSON pointer is empty or begins with '/', not {pointer!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
