"""Every file call fails once, and from then on: a typed error or none, nothing lost, nothing half done."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from oracle import (
    Ack,
    Call,
    Document,
    Tally,
    damage_store,
    file_calls,
    forks,
    fresh,
    in_parallel,
    judge,
    leave,
    leave_old_layout,
    repair_store,
)

from gitstate import PipelineState, StateError, large

pytestmark = forks

REFUSALS = ("ENOSPC", "EIO", "EDQUOT", "EMFILE", "EACCES", "EROFS")


@dataclass(frozen=True)
class Work:
    """What is prepared, what runs while calls fail, and which versions that makes if it succeeds.

    `edit` is what the file holds by somebody else's hand. With `parts` it is done in several records, so that an error
    may leave any of these versions instead, and a success too where it leaves out what cannot be read. With a `window`
    older versions may be pruned. `then` goes on. What was `damaged` before is repaired before anybody judges. Of work that
    takes very many calls one in a `stride` fails.
    """

    prepare: Callable[[PipelineState], None]
    act: Callable[[PipelineState], object]
    makes: list[Document]
    edit: Document | None = None
    parts: tuple[list[Document], ...] = ()
    window: int | None = None
    then: Callable[[PipelineState], None] = leave
    damaged: bool = False
    stride: int = 1


def _counts(state: PipelineState, *numbers: int) -> None:
    for number in numbers:
        state.write({"n": number})


def _transact(state: PipelineState) -> None:
    with state.transaction() as txn:
        txn.data["n"] = 3


def _large_objects(state: PipelineState) -> None:
    """Every object in a file of its own, for the rest of this process."""
    large.LARGE = 0
    _counts(state, 1, 2)


def _roll_back(state: PipelineState) -> None:
    with pytest.raises(ZeroDivisionError), state.transaction() as txn:
        txn.data["n"] = 1 / 0


def _look(state: PipelineState) -> None:
    assert state.read() == {"n": 2}
    assert [version.read()["n"] for version in state.log()] == [2, 1]
    state.get_transaction_history()
    state.verify()


def _name_and_go_on(state: PipelineState) -> None:
    _counts(state, 1)
    state.create_backup("keep")
    _counts(state, 2, 3)


def _prune(state: PipelineState) -> None:
    """Of three versions all but the newest, and a named one, which must stay."""
    PipelineState(state.path, max_backups=0).prune()


def _find_the_name(state: PipelineState) -> None:
    assert state.read(at="keep") == {"n": 1}
    leave(state)


def _import_the_rest(state: PipelineState) -> None:
    state.import_backups()
    found = [version.read() for version in (*state.log(), *state.list_backups(None))]
    assert {"n": 1} in found
    assert {"n": 2} in found
    operations = [line["operation"] for line in state.get_transaction_history(None)]
    assert operations.count("write_commit") == 1, operations
    again = state.import_backups()
    assert (again.versions, again.audit, again.skipped) == (0, 0, ()), again
    leave(state)


def _forget(state: PipelineState) -> None:
    leave(state)


WORKS = {
    "first write": Work(lambda state: None, lambda state: state.write({"n": 3}), [{"n": 3}]),
    "transaction": Work(lambda state: _counts(state, 1, 2), _transact, [{"n": 3}]),
    "transaction of a new process": Work(
        lambda state: (_counts(state, 1, 2), _forget(state))[0], _transact, [{"n": 3}]
    ),
    "rollback": Work(lambda state: _counts(state, 1, 2), _roll_back, []),
    "restore": Work(
        lambda state: _counts(state, 1, 2), lambda state: state.restore_backup(1), [{"n": 1}]
    ),
    "named backup": Work(
        lambda state: _counts(state, 1, 2), lambda state: state.create_backup("keep"), []
    ),
    "import": Work(
        lambda state: leave_old_layout(state.path),
        lambda state: state.import_backups(),
        [{"n": 1}, {"n": 2}],
        edit={"n": 2},
        parts=([{"n": 1}, {"n": 2}], [{"n": 2}]),
        then=_import_the_rest,
        stride=5,
    ),
    "checkpoint": Work(lambda state: _counts(state, 1, 2), lambda state: state.checkpoint(), []),
    "large objects": Work(_large_objects, _transact, [{"n": 3}], stride=3),
    "checkpoint of large objects": Work(
        _large_objects, lambda state: state.checkpoint(), [], stride=3
    ),
    "close": Work(lambda state: _counts(state, 1, 2), lambda state: state.close(), []),
    "prune": Work(_name_and_go_on, _prune, [], window=0, then=_find_the_name, stride=5),
    "name taken away": Work(
        lambda state: (_counts(state, 1), state.create_backup("keep"))[0],
        lambda state: state.delete_backup("keep"),
        [],
    ),
    "repair": Work(
        lambda state: (_counts(state, 1), state.close(), _counts(fresh(state.path), 2))[0],
        lambda state: state.repair(),
        [],
        damaged=True,
        stride=31,
    ),
    "looking": Work(lambda state: (_counts(state, 1, 2), _forget(state))[0], _look, [], stride=5),
}


class Fault:
    """Lets the call with a number fail; and with `lasting` every later one that could."""

    def __init__(self, number: int, how: str, *, lasting: bool) -> None:
        self.reached: Call | None = None
        self._number = number
        self._how = how
        self._lasting = lasting

    @contextmanager
    def injected(self) -> Iterator[None]:
        """For the block, calls fail."""
        with file_calls(self._before, reading=True):
            yield

    def _before(self, call: Call) -> None:
        if call.number < self._number or (call.number > self._number and not self._lasting):
            return
        self.reached = self.reached or call
        code = getattr(errno, self._how)
        raise OSError(code, os.strerror(code), call.target)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("name", WORKS)
def test_a_call_that_fails_is_a_typed_error_and_leaves_everything_as_it_was(
    name: str, lasting: bool, memory: Path, scale: Callable[[int, int], int], tally: Tally
) -> None:
    each = scale(1, len(REFUSALS))  # in CI each call fails in one way, all of them in turn

    def explore(first: int, step: int) -> int:
        explored = 0
        stride = scale(WORKS[name].stride, 1)
        for number in itertools.count(1 + first * stride, step * stride):
            for how in (REFUSALS * 2)[number % len(REFUSALS) :][:each]:
                folder = memory / f"{number}-{how}"
                if not _fail_at(WORKS[name], folder, Fault(number, how, lasting=lasting)):
                    return explored
                explored += 1
        raise AssertionError

    explored = in_parallel(explore)
    tally("failing file calls", explored)
    assert explored > 15


def _fail_at(work: Work, folder: Path, fault: Fault) -> bool:
    folder.mkdir()
    path = folder / "pipeline.json"
    state = fresh(path)
    work.prepare(state)
    before = [Ack(version.id, version.read()) for version in state.log()][::-1]
    if work.act is _look or not before:
        leave(state)
        state = fresh(path)
    if work.damaged:
        damage_store(state)
        state = fresh(path)
    happened: bool | None = True
    with fault.injected():
        try:
            work.act(state)
        except StateError as error:
            happened = None if error.code in {"flush-failed", "reopen"} else False
        except AssertionError as error:
            raise AssertionError(f"at {fault.reached}: {error}") from error
        except Exception as error:
            raise AssertionError(f"untyped, at {fault.reached}") from error
    if fault.reached is None:
        return False
    try:
        _judge_after(state, path, before, work, happened)
    except Exception as error:
        raise AssertionError(f"{fault._how} at {fault.reached}, happened: {happened}") from error
    shutil.rmtree(folder)
    return True


def _judge_after(
    state: PipelineState, path: Path, before: list[Ack], work: Work, happened: bool | None
) -> None:
    in_flight = [work.makes] if happened is not False and work.makes else []
    leave(state)
    if work.damaged:
        repair_store(path)
    documents = judge(
        path,
        before,
        [*in_flight, *work.parts],
        edit=work.edit,
        window=work.window,
        then="commit",
        stock_git=False,
    )
    if happened and work.window is None:
        made = [*documents][len(before) :]
        assert made in (work.makes, *work.parts), documents
    work.then(fresh(path))
