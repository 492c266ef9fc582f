"""Patch: RFC 6902 (JSON Patch) and RFC 7396 (JSON Merge Patch), applied. Pure: documents in, documents out.

A `test` finds 1 and 1.0 equal, as section 4.6 of RFC 6902 has it, where `gitstate.diff` tells them apart; `true` is no number.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from gitstate import pointer
from gitstate.errors import Problem, StateConflictError, StateValidationError

_TAKES: Final = {
    "add": "value",
    "remove": None,
    "replace": "value",
    "move": "from",
    "copy": "from",
    "test": "value",
}
"""The operations there are, and what each needs beside its path."""

_MOST_SHOWN: Final = 60


def apply_json_patch(document: Any, operations: Any) -> Any:
    """What the `operations` of an RFC 6902 JSON Patch, in their order, make of `document`, which stays as it is.

    All of them happen or none. The result shares nothing with either. Operations are numbered from 1.

    Raises:
        StateValidationError: they are no JSON Patch (`not-a-patch`), or one leads to a place that is not there (`patch`);
            the problem names the place and the number of the operation.
        StateConflictError: the value that a `test` names is not there (`patch-test`).
    """
    if not isinstance(operations, list):
        raise _no_patch("", "a JSON Patch is an array of operations", operations)
    root = {"": _copy(document)}  # so that the whole document, too, is part of something
    for operation in [_read(number, each) for number, each in enumerate(operations, 1)]:
        try:
            _apply(root, operation)
        except LookupError as error:
            raise _does_not_fit(operation) from error
    return root[""]


def apply_merge_patch(document: Any, patch: Any) -> Any:
    """What an RFC 7396 JSON Merge Patch makes of `document`, which stays as it is: null removes, an object goes into what is there.

    The result shares nothing with either.
    """
    root = {"": _copy(document)}
    todo: list[tuple[dict[str, Any], str, Any]] = [(root, "", patch)]
    # It grows as it goes: keys are added in their order, and nothing recurs.
    for parent, key, value in todo:
        if not isinstance(value, dict):
            parent[key] = _copy(value)
            continue
        if not isinstance(parent.get(key), dict):
            parent[key] = {}
        target = parent[key]
        for name, inner in value.items():
            if inner is None:
                target.pop(name, None)
            else:
                todo.append((target, name, inner))
    return root[""]


class _Operation(NamedTuple):
    """An operation of a JSON Patch; the places as parts of the document that holds the document at `""`."""

    number: int
    name: str
    path: str
    source: str
    value: Any

    @property
    def to(self) -> list[str]:
        """Where it does something."""
        return ["", *pointer.split(self.path)]

    @property
    def origin(self) -> list[str]:
        """Where it takes a value from."""
        return ["", *pointer.split(self.source)]

    def __str__(self) -> str:
        source = f"{self.source or 'the top level'} to " if _TAKES[self.name] == "from" else ""
        return f"operation {self.number}, {self.name} {source}{self.path or 'the top level'}"


def _read(number: int, given: Any) -> _Operation:
    """The operation that is `given`, all that can be said of it without the document being right."""
    what = f"operation {number}"
    if not isinstance(given, dict):
        raise _no_patch(what, "an operation is an object", given)
    name = given.get("op")
    if not isinstance(name, str) or name not in _TAKES:
        raise _no_patch(what, f"op is one of {', '.join(_TAKES)}", name)
    for member in filter(None, ("path", _TAKES[name])):
        if member not in given:
            raise _no_patch(what, f"{name} needs {member}", given)
        if member != "value":
            try:
                pointer.split(given[member])
            except (TypeError, ValueError) as error:
                raise _no_patch(what, f"{member} is a JSON pointer", given[member]) from error
    source = given["from"] if _TAKES[name] == "from" else ""
    if name == "move" and given["path"].startswith(f"{source}/"):
        raise _no_patch(what, "nothing is moved into itself", source)
    if name == "remove" and not given["path"]:
        raise _no_patch(what, "the whole document cannot be removed", "")
    return _Operation(number, name, given["path"], source, given.get("value"))


def _apply(root: dict[str, Any], operation: _Operation) -> None:
    """Does it to the document that `root` holds.

    Raises:
        LookupError: a place is not there.
        StateConflictError: a test failed.
    """
    match operation.name:
        case "add":
            pointer.insert(root, operation.to, _copy(operation.value))
        case "remove":
            pointer.get(root, operation.to)
            pointer.remove(root, operation.to)
        case "replace":
            pointer.get(root, operation.to)
            pointer.put(root, operation.to, _copy(operation.value))
        case "move":
            value = pointer.get(root, operation.origin)
            pointer.remove(root, operation.origin)
            pointer.insert(root, operation.to, value)
        case "copy":
            pointer.insert(root, operation.to, _copy(pointer.get(root, operation.origin)))
        case _:
            _test(root, operation)


def _test(root: dict[str, Any], operation: _Operation) -> None:
    try:
        found = pointer.get(root, operation.to)
    except LookupError as error:
        raise _failed(operation, "there is nothing") from error
    if not _equal(found, operation.value):
        raise _failed(operation, f"there is {_brief(found)}")


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are equal by section 4.6: numbers by their size, objects whatever the order of their keys."""
    todo = [(one, other)]
    while todo:
        one, other = todo.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            todo.extend((value, other[key]) for key, value in one.items())
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            todo.extend(zip(one, other, strict=True))
        elif isinstance(one, bool) is not isinstance(other, bool) or one != other:
            return False
    return True


def _copy(value: Any) -> Any:
    """The value, sharing no object or array with it. Nothing recurs: it may be 200 levels deep."""
    root = {"": value}
    todo: list[Any] = [root]
    for holder in todo:
        for key, inner in holder.items() if isinstance(holder, dict) else enumerate(holder):
            if isinstance(inner, (dict, list)):
                holder[key] = inner.copy()
                todo.append(holder[key])
    return root[""]


def _no_patch(what: str, wanted: str, given: Any) -> StateValidationError:
    """The error for what is no JSON Patch."""
    shown = _brief(given)
    where = f"{what}: " if what else ""
    return StateValidationError(
        f"this is no JSON Patch: {where}{wanted}, not {shown}. Nothing was changed.",
        problems=(Problem("", f"{where}{wanted}", shown),),
        code="not-a-patch",
    )


def _does_not_fit(operation: _Operation) -> StateValidationError:
    """The error for a place that is not there."""
    missing = f"{operation}: there is no such place"
    return StateValidationError(
        f"the patch does not fit: {missing}. Nothing was changed.",
        problems=(Problem(operation.path, missing, "nothing"),),
        code="patch",
    )


def _failed(operation: _Operation, found: str) -> StateConflictError:
    """The error for a test that failed."""
    return StateConflictError(
        f"the patch is for another state: {operation}: {found}, not {_brief(operation.value)}. Nothing was changed.",
        code="patch-test",
    )


def _brief(value: Any) -> str:
    """A value on one line, as JSON; what it is, where that would be long."""
    if isinstance(value, (dict, list)) and value:
        return "an object" if isinstance(value, dict) else "an array"
    text = json.dumps(value, default=repr)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
