"""Pull and clone beside what happens here: an edit, a transaction, a kill; what is here is never lost to what comes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from machines import clone, commit, image, judge_whole, machine, refs, refused, value
from oracle import git, needs_git
from servers import Folder, Serve

from gitstate import PipelineState, StateConflictError, StateTransactionError, StateValidationError
from gitstate.sync import courier

pytestmark = [needs_git, pytest.mark.usefixtures("home")]


def two(serve: Serve, tmp_path: Path) -> tuple[PipelineState, PipelineState]:
    """Two machines with the same history, of which the first has pushed one version more."""
    server = serve(Folder)
    first = machine(tmp_path / "first", server, versions=2)
    first.push()
    second = clone(tmp_path / "second", server)
    commit(first, "newer")
    first.push()
    return first, second


def test_an_edit_in_no_version_is_not_pulled_over(serve: Serve, tmp_path: Path) -> None:
    first, second = two(serve, tmp_path)
    edit = json.dumps({"phase1": {"status": "edited by hand"}})
    second.path.write_text(edit)
    before = refs(second)

    with pytest.raises(StateConflictError) as caught:
        second.pull()

    assert caught.value.code == "edited"
    assert second.path.read_text() == edit
    assert {**refs(second), "refs/audit/failures": ""} == {**before, "refs/audit/failures": ""}
    second.path.rename(tmp_path / "aside.json")
    second.pull()
    assert second.read() == first.read()
    judge_whole(second)


def test_a_state_in_no_version_is_not_pulled_over(serve: Serve, tmp_path: Path) -> None:
    _, second = two(serve, tmp_path)
    quick = PipelineState(second.path, backup_before_write=False, schema=None)
    quick.write({"only": "here"})

    with pytest.raises(StateConflictError) as caught:
        second.pull()

    assert caught.value.code == "edited"
    assert quick.read() == {"only": "here"}


def test_a_transaction_that_comes_between_is_not_pulled_over(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = two(serve, tmp_path)
    fetch = courier.fetch

    def slowly(*arguments: object) -> object:
        found = fetch(*arguments)  # type: ignore[arg-type]
        commit(second, "meanwhile")
        return found

    monkeypatch.setattr(courier, "fetch", slowly)

    with refused("remote-diverged"):
        second.pull()

    assert value(second) == "meanwhile"
    judge_whole(second)


def test_a_state_against_the_schema_is_not_pulled(serve: Serve, tmp_path: Path) -> None:
    server = serve(Folder)
    first = PipelineState(tmp_path / "first" / "pipeline.json", schema=None)
    first.write({"phase1": {"status": "success"}})
    first.remotes.add("origin", server.url)
    first.push()
    second = clone(tmp_path / "second", server)
    first.write({"phase1": "no object"})
    first.push()
    before = image(second)

    with pytest.raises(StateValidationError) as caught:
        second.pull()

    assert caught.value.pointer == "/phase1"
    assert image(second) == before
    with pytest.raises(StateValidationError):
        clone(tmp_path / "third", server)
    assert not (tmp_path / "third" / ".pipeline").exists()


def test_a_pull_within_a_transaction_is_refused_at_once(serve: Serve, tmp_path: Path) -> None:
    _, second = two(serve, tmp_path)

    with second.transaction(), pytest.raises(StateTransactionError) as caught:
        second.pull()

    assert caught.value.code == "nested"


PULLS = """
import os, signal, sys
from gitstate import PipelineState
from gitstate.{module} import {owner}
original = {owner}.{name}
def dies(*arguments, **options):
    {before}
    os.kill(os.getpid(), signal.SIGKILL)
{owner}.{name} = dies
PipelineState(sys.argv[1]).pull()
"""

DEATHS = {
    "with what it has fetched": ("sync.pull", "Pull", "run", "pass"),
    "before the pack is there": ("repository", "Repository", "adopt", "pass"),
    "behind the pack": ("repository", "Repository", "adopt", "original(*arguments, **options)"),
    "before the record": ("store", "Store", "commit", "pass"),
    "behind the record": ("store", "Store", "commit", "original(*arguments, **options)"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_killed_pull_is_made_good_by_the_next_one(
    death: str, serve: Serve, tmp_path: Path
) -> None:
    first, second = two(serve, tmp_path)
    module, owner, name, before = DEATHS[death]
    program = PULLS.format(module=module, owner=owner, name=name, before=before)

    done = subprocess.run([sys.executable, "-c", program, str(second.path)], check=False)

    assert done.returncode == -signal.SIGKILL
    fresh = PipelineState(second.path)
    assert value(fresh) in (2, "newer")
    git(fresh, "fsck", "--strict")
    fresh.pull()
    assert [each.id for each in fresh.log()] == [each.id for each in first.log()]
    assert not [each for each in os.listdir(second.path.parent / ".pipeline") if "fetch" in each]
    judge_whole(fresh)


def test_who_waits_for_another_pull_gets_what_that_brought(serve: Serve, tmp_path: Path) -> None:
    first, second = two(serve, tmp_path)
    results = []

    def pull() -> None:
        results.append(PipelineState(second.path).pull())

    threads = [threading.Thread(target=pull) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(each.versions for each in results) == [0, 0, 0, 1]
    assert second.read() == first.read()


def test_what_a_killed_clone_has_fetched_goes_with_the_next(serve: Serve, tmp_path: Path) -> None:
    server = serve(Folder)
    machine(tmp_path / "first", server, versions=1).push()
    left = tmp_path / "second" / f".pipeline.json.{'0' * 16}.clone"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    young = left.with_name(f".pipeline.json.{'1' * 16}.clone")
    young.mkdir()
    (tmp_path / "second" / ".pipeline.json.mine.clone").mkdir()

    PipelineState.clone(server.url, tmp_path / "second" / "pipeline.json")

    assert not left.exists()
    assert young.exists()  # somebody may be at it
    assert (tmp_path / "second" / ".pipeline.json.mine.clone").exists()
