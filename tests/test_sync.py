"""Sync: what a remote has is never lost by us, and what it lacks is never pruned, whatever has become of it."""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from machines import clone, commit, judge_whole, machine, refs, refused, soon, value
from oracle import git, needs_git
from servers import Daemon, Folder, Serve, Server

from gitstate import PipelineState, StateConflictError, draft
from gitstate.audit import Archive
from gitstate.sync.outgoing import Outgoing

pytestmark = [needs_git, pytest.mark.usefixtures("home")]


def pruned(folder: Path, server: Server, versions: int = 12) -> PipelineState:
    """A state that has pushed all of its versions, of which three before the newest are kept."""
    state = machine(folder, server, versions=versions, max_backups=3)
    state.push()
    state.prune()
    assert len(list(state.log())) == 4
    return state


# -- what a remote has ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rerooted", [False, True])
def test_a_remote_that_was_put_back_behind_what_is_kept_is_not_overwritten(
    rerooted: bool, serve: Serve, tmp_path: Path
) -> None:
    server = serve(Folder)
    state = pruned(tmp_path / "first", server)
    server.git("update-ref", "refs/heads/main", "main~9")
    before = server.refs()
    if rerooted:
        state.reroot()
    commit(state, 13)

    with refused("remote-shallow"):
        state.push()

    assert server.refs() == before
    assert len(server.git("log", "--format=%H", "main").split()) == 3
    assert state.prune().held == ("origin",)
    judge_whole(state)


def test_a_remote_that_is_ahead_still_has_what_it_was_known_to_have(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(Folder)
    state = machine(tmp_path / "first", server, versions=3, max_backups=1)
    state.push()
    other = clone(tmp_path / "second", server)
    commit(other, "newer")
    other.push()

    with refused("remote-ahead"):
        state.push()

    report = state.prune(dry_run=True)
    assert report.held == ()
    assert report.versions == range(1, 2)


def test_a_remote_that_is_added_in_the_middle_of_a_prune_lacks_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = machine(tmp_path / "first", versions=6, max_backups=1)
    extended = Archive.extended

    def adding(self: Archive, *arguments: Any) -> Any:
        """What takes its time before the lock is taken."""
        if not state.remotes.list():
            state.remotes.add("origin", os.fspath(tmp_path / "nowhere"))
        return extended(self, *arguments)

    monkeypatch.setattr(Archive, "extended", adding)
    report = state.prune()

    assert report.held == ("origin",)
    assert [each.serial for each in state.log()] == [6, 5, 4, 3, 2, 1]


def test_the_time_that_we_take_ourselves_is_nobodys_silence(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(Daemon)
    state = machine(tmp_path / "first", versions=2)
    state.remotes.add("origin", server.url, timeout=0.5)
    add = Outgoing.add

    def slow(self: Outgoing, *arguments: Any) -> None:
        """As on a disk that takes its time."""
        time.sleep(1.2)
        add(self, *arguments)

    monkeypatch.setattr(Outgoing, "add", slow)

    assert state.push().versions == 2


def test_a_remote_at_the_last_version_that_was_pruned_is_gone_on_with(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(Folder)
    state = pruned(tmp_path / "first", server)
    server.git("update-ref", "refs/heads/main", "main~4")

    result = state.push()

    assert result.versions == 4
    assert len(server.git("log", "--format=%H", "main").split()) == 12


def test_all_names_from_beyond_the_window_arrive(serve: Serve, tmp_path: Path) -> None:
    server = serve(Folder)
    state = machine(tmp_path / "first", max_backups=3)
    for number in range(1, 15):
        commit(state, number)
        if number in {3, 6, 9}:
            state.create_backup(f"name{number}")
    state.prune()
    state.remotes.add("origin", server.url)

    state.push()

    assert state.push().up_to_date
    assert {name for name in server.refs() if "backups" in name} == {
        f"refs/backups/name{number}" for number in (3, 6, 9)
    }
    second = clone(tmp_path / "second", server)
    assert value_at(second, "name6") == 6
    judge_whole(second)


def value_at(state: PipelineState, name: str) -> object:
    return state.read(at=name)["phase1"]["metrics"]["value"]


# -- what a remote lacks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_what_an_emptied_remote_had_is_not_pruned_any_more(
    verb: str, serve: Serve, tmp_path: Path
) -> None:
    server = serve(Folder)
    state = pruned(tmp_path / "first", server)
    server.git("update-ref", "-d", "refs/heads/main")
    hook = server.repository / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    if verb == "push":
        with refused("remote-refused"):
            state.push()
    else:
        assert "backwards" in state.pull().notes[0]
    for number in range(13, 18):
        commit(state, number)

    report = state.prune()

    assert (report.versions, report.held) == (range(9, 9), ("origin",))
    assert state.remote_status().ahead == 17


def test_a_remote_whose_history_begins_later_counts_as_one_that_has_nothing(
    serve: Serve, tmp_path: Path
) -> None:
    full, late = serve(Folder), serve(Folder)
    first = machine(tmp_path / "first", full, versions=12, max_backups=3)
    first.push()
    second = clone(tmp_path / "second", full, max_backups=3)
    first.prune()
    first.remotes.add("late", late.url)
    first.push("late")
    second.remotes.add("late", late.url)

    second.push("late")
    second.pull("late")

    assert second.prune().held == ("late",)
    assert len(list(second.log())) == 12
    assert first.prune().held == ()


def test_another_repository_under_the_same_name_has_received_nothing(
    serve: Serve, tmp_path: Path
) -> None:
    state = machine(tmp_path / "first", serve(Folder), versions=12, max_backups=3)
    state.push()
    state.remotes.remove("origin")
    git(state, "update-ref", "refs/remotes/origin/main", "main")

    state.remotes.add("origin", serve(Folder).url)

    assert state.prune().held == ("origin",)
    assert state.remote_status().ahead == 12


def test_what_a_removed_remote_has_is_not_noted_by_a_push_that_was_under_way(
    serve: Serve, tmp_path: Path
) -> None:
    state = machine(tmp_path / "first", serve(Folder), versions=2)
    other = PipelineState(state.path)

    state.push(progress=lambda _: other.remotes.list() and other.remotes.remove("origin"))

    assert "refs/remotes/origin/main" not in git(state, "for-each-ref").decode()


def test_a_remote_that_is_added_while_older_versions_go_keeps_the_others(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gitstate import retention

    state = machine(tmp_path / "first", versions=20, max_backups=3)
    monkeypatch.setattr(retention, "_VERSIONS_AT_ONCE", 5)
    archive = retention.Retention._archive
    url = serve(Folder).url

    def adding(self: retention.Retention, *arguments: object) -> bool:
        done = archive(self, *arguments)  # type: ignore[arg-type]
        PipelineState(state.path).remotes.add("origin", url)
        return done

    monkeypatch.setattr(retention.Retention, "_archive", adding)

    report = state.prune()

    assert (report.versions, report.held) == (range(1, 6), ("origin",))
    assert [version.serial for version in state.log()] == list(range(20, 5, -1))


# -- waiting -------------------------------------------------------------------------------------------------------


def test_our_own_time_is_not_the_silence_of_the_remote(serve: Serve, tmp_path: Path) -> None:
    state = machine(tmp_path / "first", versions=5)
    state.remotes.add("origin", serve(Folder).url, timeout=0.5)

    result = state.push(progress=lambda _: time.sleep(0.1))

    assert result.versions == 5


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_what_the_callback_raises_is_raised(verb: str, serve: Serve, tmp_path: Path) -> None:
    server = serve(Folder)
    machine(tmp_path / "first", server, versions=2).push()
    second = clone(tmp_path / "second", server)
    commit(second, "newer")
    if verb == "pull":
        second.push()
        second = clone(tmp_path / "third", server)
        fourth = clone(tmp_path / "fourth", server)
        commit(fourth, "newest")
        fourth.push()

    def fail(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        getattr(second, verb)(progress=fail)

    assert second.remote_status().last_error is None
    getattr(second, verb)()
    judge_whole(second)


def test_closing_waits_for_no_remote_that_has_failed_and_it_is_tried_again(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(Folder)
    away = server.repository.with_name("away.git")
    server.repository.rename(away)
    state = machine(tmp_path / "first")
    state.remotes.add("origin", server.url, push="auto")
    commit(state, 1)
    assert soon(lambda: state.remote_status().pushing == "waiting")

    state.close()

    away.rename(server.repository)
    assert soon(lambda: "refs/heads/main" in server.refs())


# -- pull ----------------------------------------------------------------------------------------------------------


def test_what_is_pulled_stays_where_git_holds_the_branch_and_collects(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(Folder)
    first = machine(tmp_path / "first", server, versions=2)
    first.push()
    second = clone(tmp_path / "second", server)
    commit(first, 3)
    first.push()
    lock = second.git_dir / "refs/heads/main.lock"
    lock.touch()

    second.pull()

    git(second, "gc", "--prune=now", "--quiet")
    lock.unlink()
    assert [version.serial for version in second.log()] == [3, 2, 1]
    commit(second, 4)
    assert second.read(at=3)["phase1"]["metrics"]["value"] == 3
    judge_whole(second)


def test_a_refused_pull_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve(Folder)
    first = machine(tmp_path / "first", server, versions=2)
    first.push()
    second = clone(tmp_path / "second", server)
    commit(first, 3)
    first.push()
    second.path.write_text("{}")
    before = sorted(second.git_dir.rglob("pack-*"))

    for _ in range(3):
        with pytest.raises(StateConflictError):
            second.pull()

    assert sorted(second.git_dir.rglob("pack-*")) == before


def test_a_clone_beside_another_origin_changes_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve(Folder)
    machine(tmp_path / "first", server, versions=2).push()
    state = machine(tmp_path / "second", serve(Folder))
    remotes = state.remotes.list()

    with refused("clone-exists"):
        PipelineState.clone(server.url, state.path)

    assert (state.remotes.list(), refs(state), state.read()) == (remotes, {}, {})


def test_lines_of_the_same_moment_are_all_there_behind_a_join(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(hours=1)

    server = serve(Folder)
    first = machine(tmp_path / "first", server)
    with monkeypatch.context() as clock:
        clock.setattr(draft, "datetime", Ahead)
        commit(first, 1)
    first.push()
    second = clone(tmp_path / "second", server)
    for state, count in ((first, 1), (second, 3)):
        for _ in range(count):
            with pytest.raises(ZeroDivisionError), state.transaction():
                _ = 1 / 0
        state.checkpoint()

    first.push()
    second.pull()

    assert len(second.get_transaction_history(None)) == 5


def test_a_hook_that_pushes_does_so_behind_a_pull(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, mirror = serve(Folder), serve(Folder)
    first = machine(tmp_path / "first", server, versions=2)
    first.push()
    second = clone(tmp_path / "second", server, timeout=3.0)
    second.remotes.add("mirror", mirror.url)
    hook = second.path.parent / ".pipeline" / "hooks" / "post-commit"
    hook.parent.mkdir()
    program = f"from gitstate import PipelineState as P; P({str(second.path)!r}).push('mirror')"
    hook.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}"\n')
    os.chmod(hook.parent, 0o755)
    hook.chmod(0o755)
    commit(first, 3)
    first.push()

    with caplog.at_level(logging.WARNING, "gitstate"):
        second.pull()

    assert caplog.messages == []
    assert mirror.refs()["refs/heads/main"] == next(second.log()).id
    assert value(second) == 3
