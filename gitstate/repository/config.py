"""Config: what the repository's own config file says, as Git reads it.

dulwich's reading is not used: it refuses spellings that Git itself writes, and where a comment ends in a backslash it
takes the next line for a part of it, so that a remote that stands there has received nothing as far as anybody knows.

Source of the format: git-config(1), "Syntax"; where that is silent, what git 2.39 does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_PIECE: Final = re.compile(
    rb"""
    [ \t\r\n]+ | [\#;][^\n\0]*
    | \[ (?P<section>[a-zA-Z0-9.-]+) (?:[ \t\r]+ "(?P<of>(?:[^"\\\n\0]|\\[^\n\0])*)")? \]
    | (?P<key>[a-zA-Z][a-zA-Z0-9-]*) [ \t]* (?:
        (?=\r?\n|\Z)
        | = (?P<value>(?:[^"\\\n\#;\0] | \\(?:["\\ntb]|\r?\n) | "(?:[^"\\\n\0]|\\(?:["\\ntb]|\r?\n))*")*)
      )
    """,
    re.VERBOSE,
)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_BOOLEAN: Final = re.compile(rb"true|yes|on|false|no|off|[+-]?[0-9]+[kmg]?|", re.IGNORECASE)
_VERSION: Final = re.compile(rb"[+]?(?:0x)?0*[01]", re.IGNORECASE)


class Entry(NamedTuple):
    """A line of a config.

    Attributes:
        section: the section it is in, in small letters.
        of: the second part of the section's name, None where it has none.
        key: in small letters; None for the line that begins the section.
        value: what the key is set to, None where it is only named.
    """

    section: bytes
    of: bytes | None
    key: bytes | None = None
    value: bytes | None = None


def entries(config: bytes) -> Iterator[Entry]:
    """What a config says itself, in its order: what it includes is not read (PITFALLS D25).

    Raises:
        ValueError: Git cannot read it.
    """
    place = Entry(b"", None)
    at = len(_BYTE_ORDER_MARK) if config.startswith(_BYTE_ORDER_MARK) else 0
    while at < len(config):
        piece = _PIECE.match(config, at)
        if piece is None:
            raise ValueError(f"line {config.count(10, 0, at) + 1} makes no sense")
        at = piece.end()
        if name := piece["section"]:
            # A section's second part may also stand behind a dot, and is in small letters then.
            section, dot, rest = name.lower().partition(b".")
            of = _ESCAPED.sub(rb"\1", piece["of"]) if piece["of"] is not None else None
            place = Entry(section, of if not dot else rest if of is None else rest + b"." + of)
            yield place
        elif key := piece["key"]:
            yield place._replace(key=key.lower(), value=piece["value"])


def remotes_in(config: bytes) -> list[str]:
    """The names of the remotes that a config tells of.

    Raises:
        ValueError: Git cannot read it.
    """
    named = {each.of for each in entries(config) if each.section == b"remote"}
    return sorted(name.decode(errors="surrogateescape") for name in named if name)


def usable(config: bytes) -> bool:
    """Whether Git can read it and works with it. What it says beyond that is its owner's."""
    try:
        core = {e.key: e.value for e in entries(config) if (e.section, e.of) == (b"core", None)}
    except ValueError:
        return False
    version = _plain(core.get(b"repositoryformatversion", b"0"))
    booleans = (core.get(key) for key in (b"bare", b"filemode"))
    return bool(_VERSION.fullmatch(version)) and all(
        _BOOLEAN.fullmatch(_plain(value)) for value in booleans
    )


def _plain(value: bytes | None) -> bytes:
    return (value or b"").replace(b'"', b"").strip()
