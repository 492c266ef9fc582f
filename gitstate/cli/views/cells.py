"""Cells: how much room a text takes on a terminal, where a Chinese character, say, takes that of two."""

from __future__ import annotations

_DOTS = "..."


def width_of(text: str) -> int:
    """How many columns it takes."""
    from rich.cells import cell_len  # noqa: PLC0415  JSON output does without it

    return cell_len(text)


def filled(text: str, width: int) -> str:
    """The text with spaces behind it, to that width or its own."""
    return text + " " * (width - width_of(text))


def cut(text: str, width: int) -> str:
    """As much of it as there is room for, with dots where there is more of it."""
    from rich.cells import set_cell_size  # noqa: PLC0415  as above

    if width_of(text) <= width:
        return text
    return set_cell_size(text, width - len(_DOTS)) + _DOTS


def sized(text: str, width: int) -> str:
    """Exactly that wide: filled, or without what is too much."""
    from rich.cells import set_cell_size  # noqa: PLC0415  as above

    return set_cell_size(text, width)
