"""Machines that share a state by a remote: what the tests of remotes compare, and how."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from oracle import git
from servers import Server

from gitstate import PipelineState, StateRemoteError

TIMEOUT = 1.5
SLACK = 12.0
"""Seconds that a loaded machine may take beside the timeout: whoever hangs takes for ever."""


class Image(NamedTuple):
    """What must be as it was when something is refused: the file, the refs, the objects, the versions."""

    content: bytes | None
    refs: dict[str, str]
    objects: frozenset[str]
    versions: list[str]


def image(state: PipelineState) -> Image:
    """How a state is on its own machine; what it knows of others is left out."""
    content = state.path.read_bytes() if state.path.exists() else None
    if not state.git_dir.is_dir():
        return Image(content, {}, frozenset(), [])
    return Image(content, refs(state), objects(state), [each.id for each in state.log()])


def refs(state: PipelineState) -> dict[str, str]:
    """Its own refs, without remote-tracking ones."""
    lines = git(state, "for-each-ref", "--format=%(refname) %(objectname)").decode().splitlines()
    found = dict(line.split() for line in lines)
    return {name: value for name, value in found.items() if not name.startswith("refs/remotes/")}


def objects(state: PipelineState) -> frozenset[str]:
    """Every object of its repository, reachable or not."""
    listed = git(state, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    return frozenset(listed.decode().split())


def commit(state: PipelineState, value: Any, **options: Any) -> str:
    """A version that holds `value`: its id."""
    with state.transaction(**options) as txn:
        txn.data["phase1"] = {"status": "success", "metrics": {"value": value}}
    assert txn.version is not None
    return txn.version.id


def value(state: PipelineState) -> Any:
    """What the last `commit` gave."""
    return state.read()["phase1"]["metrics"]["value"]


def machine(
    folder: Path, server: Any = None, *, versions: int = 0, **options: Any
) -> PipelineState:
    """A state on a machine of its own, with so many versions and, if there is one, the server as its origin."""
    folder.mkdir()
    state = PipelineState(folder / "pipeline.json", **options)
    for number in range(1, versions + 1):
        commit(state, number)
    if server is not None:
        state.remotes.add("origin", server.url, timeout=30.0)
    return state


def clone(folder: Path, server: Any, **options: Any) -> PipelineState:
    """The state of a server on another machine."""
    folder.mkdir()
    return PipelineState.clone(server.url, folder / "pipeline.json", **options)


def judge_same(first: PipelineState, second: PipelineState) -> None:
    """Both machines know the same, and both are whole."""
    assert second.read() == first.read()
    assert second.path.read_bytes() == first.path.read_bytes()
    assert [each.id for each in second.log()] == [each.id for each in first.log()]
    assert [each.serial for each in second.log()] == [each.serial for each in first.log()]
    backups = [[each.id for each in state.list_backups()] for state in (first, second)]
    assert backups[0] == backups[1]
    assert second.get_transaction_history(None) == first.get_transaction_history(None)
    for state in (first, second):
        judge_whole(state)


def judge_whole(state: PipelineState) -> None:
    """Nothing is wrong with a state, by its own word and by stock git's."""
    report = state.verify()
    assert report.ok, report.problems
    assert not git(state, "fsck", "--strict", "--no-dangling", "--no-progress").strip()


def judge_remote(server: Server, state: PipelineState) -> None:
    """The server has what the machine has, and stock git finds nothing wrong with it."""
    listed = server.git("log", "--format=%H", "main").split()
    assert listed == [each.id for each in state.log()]
    assert server.git("show", "main:pipeline.json").encode() == state.path.read_bytes()
    assert server.git("fsck", "--strict", "--no-dangling", "--no-progress") == ""
    ours = {name: to for name, to in refs(state).items() if name != "refs/audit/archive"}
    theirs = {name: to for name, to in server.refs().items() if name != "refs/audit/archive"}
    assert theirs == ours


@contextmanager
def refused(*codes: str) -> Iterator[pytest.ExceptionInfo[StateRemoteError]]:
    """The block must be refused with one of these codes; in time, if it is a matter of waiting."""
    with pytest.raises(StateRemoteError) as info:
        yield info
    assert info.value.code in codes, f"{info.value.code}: {info.value}"


@contextmanager
def unchanged(*states: PipelineState, server: Server | None = None) -> Iterator[None]:
    """Whatever the block does, these states, and the server's refs, are as they were."""
    before = [image(state) for state in states], server and server.refs()
    yield
    assert ([image(state) for state in states], server and server.refs()) == before


@contextmanager
def in_time(timeout: float = TIMEOUT) -> Iterator[None]:
    """The block does not hang."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < timeout + SLACK


def soon(happens: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether it happens, or has, within so many seconds."""
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def everything_said(error: BaseException | None) -> str:
    """An error, its attributes, and what led to it."""
    said = []
    while error is not None:
        said.append(f"{error!r} {error} {vars(error)} {getattr(error, '__notes__', '')}")
        error = error.__cause__ or error.__context__
    return "\n".join(said)


def holds(folder: Path, secret: str) -> list[str]:
    """Files below a folder that hold a secret."""
    return [
        os.fspath(file)
        for file in folder.rglob("*")
        if file.is_file() and secret.encode() in file.read_bytes()
    ]
