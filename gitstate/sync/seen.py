"""Seen: what is remembered of objects that come one after the other, in any order: too little to fill the memory.

Each is judged for itself: a commit by whether gitstate makes such, a tree by what may stand in it, a blob by whether it is
a state, or lines of the audit trail. How they belong together is for `Inspection` to say.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from gitstate import codec
from gitstate.draft import KEPT, REROOTED
from gitstate.errors import StateReadError
from gitstate.repository.objects import parse_commit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from gitstate.repository.objects import Raw

_ID_SIZE: Final = 20
_LONGEST_REASON: Final = 200
_WHO: Final = rb"[^\0\n<>]+ <[^\0\n<>]*> (?:0|[1-9][0-9]{0,11}) \+0000\n"

# As gitstate makes it: what reads a commit in another way is to find the same tree and the same parents.
_HEADER: Final = re.compile(
    rb"tree [0-9a-f]{40}\n(?:parent [0-9a-f]{40}\n){0,2}"
    rb"author %scommitter %sencoding UTF-8\n\n" % (_WHO, _WHO)
)
_FILE_OF_LINES: Final = re.compile(rb"100644 ((?:backups\.|lines\.[0-9]{4}\.)?[0-9]{9}\.jsonl)\0")


class Made(NamedTuple):
    """A commit of gitstate's.

    Attributes:
        parents: the ids of its parents, at most two.
        tree: that of its tree.
        serial: the number of the version that it is, or came upon.
        time: when it was made.
        kept_as: the ref for which it keeps bytes that are no state; `""` for none.
        rerooted: whether it may have no parent, as it had one that was pruned: see reroot.py.
    """

    parents: tuple[str, ...]
    tree: str
    serial: int
    time: datetime
    kept_as: str
    rerooted: bool


class Tree(NamedTuple):
    """A tree of files.

    Attributes:
        blob: the id of the state, where it has that and nothing else.
        files: those of files of lines, where it has nothing else; the bytes of one behind the other.
    """

    blob: str | None
    files: bytes | None

    def lines(self) -> Iterator[str]:
        """The ids of the files of lines."""
        files = self.files or b""
        for start in range(0, len(files), _ID_SIZE):
            yield files[start : start + _ID_SIZE].hex()


class Seen:
    """What is known of the objects that were visited; of those that are not as gitstate makes them, why.

    Attributes:
        commits: the commits by their ids.
        trees: the trees by theirs.
        states: the ids of blobs that are a state.
        lines: the ids of blobs of lines; of a single one, which is a JSON object, a blob may be both.
        no_states: why each of the other blobs, those of lines too, is no state.
        others: the ids of objects of other types.
    """

    def __init__(self, file_name: bytes, *, max_state: int, allow_nan: bool) -> None:
        """Takes a tree that holds the file of that name for that of a version; a state may have so many bytes."""
        self._name = file_name.decode(errors="replace")
        self._entry = b"100644 %s\0" % file_name
        self._max_state = max_state
        self._allow_nan = allow_nan
        self.commits: dict[str, Made | str] = {}
        self.trees: dict[str, Tree | str] = {}
        self.states: set[str] = set()
        self.lines: set[str] = set()
        self.no_states: dict[str, str] = {}
        self.others: set[str] = set()

    def visit(self, raw: Raw) -> None:
        """Judges an object."""
        if raw.kind == b"blob":
            self._visit_blob(raw)
        elif raw.kind == b"tree":
            self.trees[raw.id] = self._tree(raw.content)
        elif raw.kind == b"commit":
            self.commits[raw.id] = _commit(raw)
        else:
            self.others.add(raw.id)

    def ids(self) -> Iterator[str]:
        """The ids of all objects."""
        for each in (self.commits, self.trees, self.states, self.no_states, self.others):
            yield from each

    def has(self, object_id: str) -> bool:
        """Whether the object was visited."""
        known = (self.commits, self.trees, self.states, self.no_states, self.others)
        return any(object_id in each for each in known)

    def _visit_blob(self, raw: Raw) -> None:
        why = self._why_no_state(raw.content)
        if why is None:
            self.states.add(raw.id)
        else:
            self.no_states[raw.id] = why[:_LONGEST_REASON]
        single = why is None and raw.content.find(b"\n", 0, -1) < 0
        if (why is not None or single) and _is_lines(raw.content):
            self.lines.add(raw.id)

    def _why_no_state(self, content: bytes) -> str | None:
        """Why this is no state; None where it is one."""
        if len(content) > self._max_state:
            return f"it has {len(content)} bytes, more than {self._max_state}"
        if codec.is_own(content, allow_nan=self._allow_nan):
            return None
        try:
            codec.decode_foreign(content, allow_nan=self._allow_nan)
        except StateReadError as error:
            return str(error)
        return None

    def _tree(self, content: bytes) -> Tree | str:
        blob = None
        if len(content) == len(self._entry) + _ID_SIZE and content.startswith(self._entry):
            blob = content[-_ID_SIZE:].hex()
        files, at, last = bytearray(), 0, b""
        while at < len(content):
            entry = _FILE_OF_LINES.match(content, at)
            # In order, and each name once: Git would find another entry than we do.
            if entry is None or entry[1] <= last or entry.end() + _ID_SIZE > len(content):
                break
            last, at = entry[1], entry.end() + _ID_SIZE
            files += content[entry.end() : at]
        if at < len(content):
            other = f"it has other files than {self._name}, or more"
            return other if blob is None else Tree(blob, None)
        return Tree(blob, bytes(files))


def _commit(raw: Raw) -> Made | str:
    """What a commit says, or why it is none of gitstate's."""
    header = _HEADER.match(raw.content)
    if header is None or b"\0" in raw.content:
        return "its header is not one that gitstate writes"
    try:
        commit = parse_commit(raw)
    except ValueError as error:
        return str(error)[:_LONGEST_REASON]
    note = commit.note
    kept_as, rerooted = note.extra.get(KEPT, ""), REROOTED in note.extra
    return Made(commit.parents, commit.tree, note.serial, note.time, kept_as, rerooted)


def _is_lines(content: bytes) -> bool:
    """Whether this is a JSON object in each line."""
    if not content.endswith(b"\n") or b"\r" in content:
        return False
    at = 0
    while at < len(content):
        end = content.index(b"\n", at)
        try:
            if not isinstance(json.loads(content[at:end]), dict):
                return False
        except (ValueError, RecursionError):
            return False
        at = end + 1
    return True
