"""Progress: how far a verify, a prune, an export and an import are, and what is left where whoever is told raises."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oracle import judge_disk

from gitstate import PipelineState, Progress, StateReadError
from gitstate.progress import counting

VERSIONS = 15
COPIES = 12
LINES = 120


@pytest.fixture
def old(memory: Path) -> PipelineState:
    """A state with history, and what another state manager has left beside it."""
    state = PipelineState(memory / "pipeline.json", max_backups=9, schema=None)
    for number in range(VERSIONS):
        state.write({"n": number})
    state.checkpoint()
    folder = memory / ".pipeline/backups"
    folder.mkdir()
    for number in range(COPIES):
        copy = folder / f"pipeline_20250301_1200{number:02}_000000.json.bak"
        copy.write_text(json.dumps({"old": number}))
    with (memory / ".pipeline/transactions.log").open("w") as log:
        for number in range(LINES):
            log.write(f'{{"timestamp": "2025-03-01T12:00:00.{number:06}Z", "operation": "x"}}\n')
    return state


CALLS: dict[str, tuple[Callable[..., Any], dict[str, int | None]]] = {
    "verify": (
        PipelineState.verify,
        {"checking": None, "reading": VERSIONS, "following": None},
    ),
    "prune": (
        PipelineState.prune,
        {"archiving": VERSIONS - 10, "following": None, "packing": None},
    ),
    "export": (
        lambda state, **options: state.export(state.path.with_name("out"), **options),
        {"writing": VERSIONS},
    ),
    "export, bundle": (
        lambda state, **options: state.export_bundle(state.path.with_name("out.b"), **options),
        {"following": None},
    ),
    "import": (PipelineState.import_backups, {"importing": COPIES, "reading": None}),
    "import, dry": (
        lambda state, **options: state.import_backups(dry_run=True, **options),
        {"importing": COPIES, "reading": None},
    ),
}


@pytest.mark.parametrize(("call", "totals"), CALLS.values(), ids=CALLS)
def test_each_phase_is_told_by_numbers_that_grow_to_all_of_it(old, call, totals):
    told: list[Progress] = []

    call(old, progress=told.append)

    assert list(dict.fromkeys(each.phase for each in told)) == list(totals)
    for phase, total in totals.items():
        found = [each for each in told if each.phase == phase]
        done = [each.done for each in found]
        assert done == sorted(set(done))
        assert done[0] == 0 < done[-1]
        assert {each.total for each in found} == {total}
        assert total in (None, done[-1])
    old.close()


@pytest.mark.parametrize("call", [call for call, _ in CALLS.values()], ids=CALLS)
def test_nobody_is_told_while_the_state_is_locked(old, call):
    holders = []

    call(old, progress=lambda _: holders.append(old.lock_holder()))

    assert set(holders) == {None}
    old.close()


class TroubleError(StateReadError, OSError):
    """What a callback raises: of all that it may be, what is most easily taken for something else."""


PHASES = [(name, phase) for name, (_, totals) in list(CALLS.items())[:3] for phase in totals]


@pytest.mark.parametrize(("name", "phase"), PHASES)
def test_what_the_callback_raises_comes_out_as_it_is_and_nothing_is_left_half_done(
    old, name, phase, monkeypatch
):
    monkeypatch.setattr("gitstate.progress._PARTS", 2)  # in the midst of it, too

    def fail(progress: Progress) -> None:
        if progress.phase == phase and progress.done:
            raise TroubleError("enough")

    with pytest.raises(TroubleError) as caught:
        CALLS[name][0](old, progress=fail)
    assert str(caught.value) == "enough"
    del caught  # with it go the files that the walk had open

    other = PipelineState(old.path, timeout=0, max_backups=9, schema=None)
    other.write({"n": "next"})
    judge_disk(other)
    assert other.import_backups(dry_run=True) == other.import_backups()
    lines = [line["operation"] for line in other.get_transaction_history(None)]
    assert lines.count("x_commit") == LINES
    other.prune()
    assert len(list(other.log())) == 10
    judge_disk(other)
    other.close()


def test_it_is_told_about_a_hundred_times_at_most_where_the_total_is_known_and_every_hundred_else():
    told: list[tuple[str, int, int | None]] = []
    for total in (5, 100_000, None):
        told.clear()
        with counting(lambda *each: told.append(each), "phase", total) as seen:
            for _ in range(total or 1_000):
                seen()
        assert len(told) == {5: 6, 100_000: 101, None: 11}[total]
        assert told[0] == ("phase", 0, total)
        assert told[-1] == ("phase", total or 1_000, total)


def test_what_a_callback_raises_has_its_own_cause_and_may_be_anything(path):
    state = PipelineState(path)
    state.write({"n": 1})

    def with_a_cause(_: Progress) -> None:
        raise KeyError("mine") from ValueError("why")

    def at_its_end(_: Progress) -> None:
        next(iter(()))

    with pytest.raises(KeyError) as caught:
        state.verify(progress=with_a_cause)
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(StopIteration):
        state.verify(progress=at_its_end)
