"""Origins: which version last changed each value of a state, told by walking from the newest version to older ones.

An item of a list is followed to where it stood before, as `gitstate.diff` finds it again: one that comes in front of
others changes none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gitstate import pointer
from gitstate.cli.answers import compare
from gitstate.diff import find, same
from gitstate.errors import VersionPrunedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gitstate import Change, PipelineState, Version


class Origin:
    """A value, and where it comes from.

    Attributes:
        parts: the way to it.
        value: what is there.
        version: the one that last changed it; None for an edit of the file that is no version yet.
        boundary: whether it may be older: all versions before that one are pruned.
    """

    def __init__(self, parts: tuple[str, ...], value: Any) -> None:
        self.parts = parts
        self.value = value
        self.version: Version | None = None
        self.boundary = False
        self.was = parts
        """The way to it in the version that the walk has come to."""


def origins(
    state: PipelineState,
    newest: Version | None,
    document: dict[str, Any],
    parts: list[str],
    *,
    leaves: bool,
) -> list[Origin]:
    """Where the value at `parts` of the `document` comes from, the file of which `newest` is the newest version.

    That is told of each key of an object, or item of an array; with `leaves` of each value that holds no other.

    Raises:
        LookupError: there is nothing at `parts`.
        StateReadError: the history is damaged.
    """
    value = pointer.get(document, parts)
    found = [Origin(at, each) for at, each in _values_in(value, tuple(parts), leaves=leaves)]
    if newest is not None:
        _Walk(state, newest, document).settle(found)
    return found


class _Walk:
    """From a document, as it is now, to the version that it was made on, and back through the history.

    Attributes:
        before: what the version that the walk has come to holds.
    """

    def __init__(self, state: PipelineState, newest: Version, document: dict[str, Any]) -> None:
        self._state = state
        self._newest = newest
        self.before = document

    def settle(self, found: list[Origin]) -> None:
        """Says of each which version it comes from."""
        todo = self._step(found, self._newest, None)
        maker = self._newest
        for version in self._older():
            # Only what that one changed need be looked for in the one before.
            touched = {*maker.changed_keys}
            within = [each for each in todo if not each.was or each.was[0] in touched]
            if within:
                try:
                    kept = self._step(within, version, maker)
                except VersionPrunedError:  # just now
                    break
                gone = {*within} - {*kept}
                todo = [each for each in todo if each not in gone]
            maker = version
            if not todo:
                return
        for each in todo:
            each.version, each.boundary = maker, not compare.is_first(maker)

    def _older(self) -> Iterator[Version]:
        """The versions before the newest, as the walk began."""
        for version in self._state.log():
            if version.serial < self._newest.serial:
                yield version

    def _step(self, todo: list[Origin], version: Version, maker: Version | None) -> list[Origin]:
        """Goes back to `version`, on which `maker` was made: those that were there already."""
        after, self.before = self.before, version.read()
        moves = _Moves(self.before, after)
        kept = []
        for each in todo:
            was = moves.origin(each.was, each.value)
            if was is None:
                each.version = maker
            else:
                each.was = was
                kept.append(each)
        return kept


class _Moves:
    """Where the values of a document stood in the one before."""

    def __init__(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._old = old
        self._new = new
        self._orders: dict[tuple[str, ...], list[int | None]] = {}
        self._changes: dict[str, dict[tuple[str, ...], list[Change]]] = {}

    def origin(self, parts: tuple[str, ...], value: Any) -> tuple[str, ...] | None:
        """The way to the same `value` in the document before; None where it is another one, or new."""
        was = self._moved(parts)
        if was is None or not same(find(self._old, was), value):
            return None
        return was

    def _moved(self, parts: tuple[str, ...]) -> tuple[str, ...] | None:
        """The way to whatever stood there, through lists the items of which have moved; None where nothing did."""
        old: Any = self._old
        new: Any = self._new
        was: list[str] = []
        for depth, part in enumerate(parts):
            before: int | str | None = part
            if isinstance(old, list) and isinstance(new, list):
                before = self._order(parts[:depth], old, new)[int(part)]
            if before is None:
                return None
            was.append(str(before))
            old, new = find(old, was[-1:]), find(new, [part])
        return tuple(was)

    def _order(self, parts: tuple[str, ...], old: list[Any], new: list[Any]) -> list[int | None]:
        """Where each item of the list at `parts` stood in the `old` one; None of one that is new."""
        if parts not in self._orders:
            order: list[int | None] = list(range(len(old)))
            for change in [] if same(old, new) else self._below(parts[0]).get(parts, []):
                index = int(change.pointer.rpartition("/")[2])
                if change.op == "remove":
                    del order[index]
                else:
                    order.insert(index, None)
            self._orders[parts] = order
        return self._orders[parts]

    def _below(self, key: str) -> dict[tuple[str, ...], list[Change]]:
        """What came and went below a key, by what it is part of; in the order in which it applies."""
        if key not in self._changes:
            found: dict[tuple[str, ...], list[Change]] = {}
            for change in compare.between(self._old, self._new, [key]):
                if change.op != "replace":
                    found.setdefault(tuple(pointer.split(change.pointer)[:-1]), []).append(change)
            self._changes[key] = found
        return self._changes[key]


def _values_in(
    value: Any, parts: tuple[str, ...], *, leaves: bool
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values in a value, in their order, and the ways to them; itself where it holds none."""
    if not (isinstance(value, (dict, list)) and value):
        yield parts, value
        return
    keys = value if isinstance(value, dict) else map(str, range(len(value)))
    todo = [((*parts, key), pointer.get(value, [key])) for key in reversed([*keys])]
    while todo:  # no recursion: a document may be 200 levels deep
        at, each = todo.pop()
        if leaves and isinstance(each, (dict, list)) and each:
            inside = each if isinstance(each, dict) else map(str, range(len(each)))
            todo.extend(((*at, key), pointer.get(each, [key])) for key in reversed([*inside]))
        else:
            yield at, each
