"""Escapes: a stranger's text, such as a state or a message holds, as it can be shown, or typed.

No control character of it reaches the terminal, and none that cannot be seen, or that turns the text around. The price is
that an emoji of several, a family or the flag of a part of a country, is shown as its parts, with the joiners escaped.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from typing import Any, Final

_CONTROL: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e0fff]"
)
_ENDS_A_LINE: Final = str.maketrans({"\n": r"\n", "\t": r"\t", "\r": r"\r"})


def printable(text: str) -> str:
    """The text, lines and all, with an escape in place of each control character."""
    return _CONTROL.sub(lambda match: _escape(ord(match[0])), text)


def on_a_line(text: str) -> str:
    """The same where it is a part of a line, which it must neither end nor begin anew."""
    return printable(text.translate(_ENDS_A_LINE))


def as_json(value: Any, *, indent: int | None = None) -> str:
    """The value as JSON that can be shown: each control character as the escape that JSON has for it."""
    text = json.dumps(value, indent=indent, ensure_ascii=not _is_utf8())
    return _CONTROL.sub(lambda match: _escape_of_json(match[0]), text)


def typed(word: str) -> str:
    """The word as it is typed in a shell, to be copied from a hint."""
    return shlex.quote(word)


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape_of_json(character: str) -> str:
    units = character.encode("utf-16-be").hex(" ", 2).split()  # JSON has escapes of four digits
    return "".join(f"\\u{unit}" for unit in units)


def _is_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
