"""A state on several machines, by real servers: what is pushed arrives whole, and what cannot be is refused."""

from __future__ import annotations

import os
import random
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from machines import (
    clone,
    commit,
    image,
    in_time,
    judge_remote,
    judge_same,
    judge_whole,
    machine,
    objects,
    refs,
    refused,
    soon,
    unchanged,
    value,
)
from oracle import Child, Tally, Tell, fork, forks, git, needs_git
from servers import (
    PASSWORD,
    REAL,
    USER,
    Daemon,
    FileUrl,
    Folder,
    Http,
    HttpWithPassword,
    Scissors,
    Serve,
    Server,
    Ssh,
    SshByScp,
)

from gitstate import PipelineState, RefUpdate, StateRemoteError
from gitstate.sync import worker

pytestmark = [needs_git, pytest.mark.usefixtures("home")]

Known = Callable[[type[Server]], Server]


@pytest.fixture
def known(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Known:
    """Starts a server of a kind, and puts what its clients must know into the environment."""

    def start(kind: type[Server]) -> Server:
        server = serve(kind)
        for name, text in server.environment.items():
            monkeypatch.setenv(name, text)
        return server

    return start


@pytest.fixture(params=REAL.values(), ids=REAL)
def server(request: pytest.FixtureRequest, known: Known) -> Server:
    """Every kind of server in turn."""
    return known(request.param)


@pytest.fixture
def folder(known: Known) -> Server:
    """The simplest one, for what has nothing to do with servers."""
    return known(Folder)


def _eventful(folder: Path, server: Server) -> PipelineState:
    """A state with everything that travels: versions, a name, a failure, a transaction without a version."""
    state = machine(folder, server, versions=3)
    state.create_backup("before-speech")
    with pytest.raises(ZeroDivisionError), state.transaction() as txn:
        txn.data["phase1"] = 1 / 0
    with PipelineState(state.path, backup_before_write=False) as other:
        other.write({"phase1": {"status": "running"}})
    commit(state, 4)
    return state


# -- every kind of server ------------------------------------------------------------------------------------------


def test_the_first_push_brings_all_versions_names_and_audit_lines(
    server: Server, tmp_path: Path
) -> None:
    state = _eventful(tmp_path / "first", server)
    head = next(state.log()).id

    result = state.push()

    assert (result.remote, result.versions, result.up_to_date) == (
        "origin",
        len(list(state.log())),
        False,
    )
    assert RefUpdate("refs/heads/main", None, head) in result.updates
    assert {update.name: update.new for update in result.updates} == refs(state)
    assert {"refs/backups/before-speech", "refs/audit/failures", "refs/audit/unversioned"} <= set(
        server.refs()
    )
    judge_remote(server, state)
    judge_whole(state)
    assert git(state, "rev-parse", "refs/remotes/origin/main").decode().strip() == head


def test_the_next_push_brings_what_is_new_and_the_one_after_nothing(
    server: Server, tmp_path: Path
) -> None:
    state = machine(tmp_path / "first", server, versions=3)
    state.push()
    old, before = next(state.log()).id, _objects(server)
    new = commit(state, 4)

    second, brought = state.push(), _objects(server) - before
    third = state.push()

    assert second.updates == (RefUpdate("refs/heads/main", old, new),)
    assert second.versions == 1
    assert brought == {
        server.git("rev-parse", name).strip()
        for name in ("main", "main^{tree}", "main:pipeline.json")
    }
    assert (third.up_to_date, third.updates, third.versions) == (True, (), 0)
    judge_remote(server, state)


def _objects(server: Server) -> set[str]:
    listed = server.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    return set(listed.split())


def test_a_clone_knows_what_the_first_machine_knows(server: Server, tmp_path: Path) -> None:
    first = _eventful(tmp_path / "first", server)
    first.push()

    second = clone(tmp_path / "second", server)

    judge_same(first, second)
    assert second.read(at="before-speech") == first.read(at="before-speech")
    assert [(remote.name, remote.url) for remote in second.remotes.list()] == [
        ("origin", server.url)
    ]
    assert second.push().up_to_date
    assert second.pull().updates == ()


def test_two_machines_take_turns(server: Server, tmp_path: Path) -> None:
    first = machine(tmp_path / "first", server, versions=2)
    first.push()
    second = clone(tmp_path / "second", server)
    new = [commit(second, "theirs"), commit(second, "theirs too")][-1]
    second.create_backup("of-the-second")
    pushed = second.push()

    pulled = first.pull()

    assert (pushed.versions, pulled.versions) == (2, 2)
    assert pulled.version is not None
    assert pulled.version.id == new
    assert value(first) == "theirs too"
    assert first.read(at="of-the-second") == first.read()
    judge_same(second, first)
    again = first.pull()
    assert (again.updates, again.versions) == ((), 0)
    commit(first, "ours")
    first.push()
    second.pull()
    judge_same(first, second)
    judge_remote(server, first)


def test_whoever_is_behind_pulls_first_and_whoever_has_diverged_is_told_both_heads(
    server: Server, tmp_path: Path
) -> None:
    first = machine(tmp_path / "first", server, versions=2)
    first.push()
    second = clone(tmp_path / "second", server)
    theirs = commit(second, "theirs")
    second.push()

    with unchanged(first, server=server), refused("remote-ahead") as behind:
        first.push()
    ours = commit(first, "ours")
    errors = []
    for verb in (first.push, first.pull):
        with unchanged(first, second, server=server), refused("remote-diverged") as info:
            verb()
        errors.append(info.value)

    assert "pull" in str(behind.value)
    assert behind.value.theirs == theirs
    assert [(error.ours, error.theirs) for error in errors] == [(ours, theirs)] * 2
    assert first.remote_status().diverged
    judge_whole(first)


def test_the_history_of_another_state_is_foreign(server: Server, tmp_path: Path) -> None:
    first = machine(tmp_path / "first", server, versions=2)
    first.push()
    stranger = machine(tmp_path / "stranger", server, versions=3)

    for verb in (stranger.push, stranger.pull):
        with unchanged(stranger, server=server), refused("remote-foreign") as info:
            verb()
        assert info.value.ours == next(stranger.log()).id
        assert info.value.theirs == next(first.log()).id

    judge_whole(stranger)


RACERS = 6


@forks
@pytest.mark.parametrize("kind", [Folder, Daemon, Ssh, Http])
def test_of_racers_one_wins_each_round_and_the_others_lose_nothing(
    kind: type[Server], known: Known, tmp_path: Path, tally: Tally
) -> None:
    server = known(kind)
    rounds = 2 if kind in {Folder, Daemon} else 1
    machine(tmp_path / "first", server, versions=1).push()
    racers = [
        fork(lambda tell, number=number: _race(tell, server, tmp_path, number))
        for number in range(RACERS)
    ]
    for racer in racers:
        racer.await_line(1)

    for turn in range(rounds):
        told = _in_step(racers, 3 * turn + 2)  # they have committed
        assert set(told) == {"committed"}
        outcomes = _in_step(racers, 3 * turn + 3)
        assert outcomes.count("pushed") == 1, outcomes
        others = {each for each in outcomes if each != "pushed"}
        assert others <= {"remote-moved", "remote-diverged", "remote-ahead"}
        assert set(_in_step(racers, 3 * turn + 4)) == {"whole"}

    for racer in racers:
        racer.finish()
    assert len(server.git("rev-list", "main").split()) == 1 + rounds
    server.git("fsck", "--strict")
    tally("races of six that push", rounds)


def _in_step(racers: list[Child], lines: int) -> list[Any]:
    for racer in racers:
        racer.start()
    return [racer.await_line(lines)[-1] for racer in racers]


def _race(tell: Tell, server: Server, folder: Path, number: int) -> None:
    state = clone(folder / f"{number}-0", server)
    tell("ready")
    steps = tell.steps()
    for turn, _ in enumerate(steps, 1):
        mine = commit(state, [number, turn])
        tell("committed")
        next(steps)
        try:
            state.push()
            outcome = "pushed"
        except StateRemoteError as error:
            outcome = error.code
        tell(outcome)
        next(steps)
        assert next(state.log()).id == mine
        assert value(state) == [number, turn]
        if outcome != "pushed":
            with refused("remote-diverged"):
                state.pull()
            assert next(state.log()).id == mine
            state.close()
            state = clone(folder / f"{number}-{turn}", server)  # and what is mine, once more
        judge_whole(state)
        tell("whole")


@pytest.mark.parametrize(("kind", "cuts"), [(Daemon, 12), (Http, 8), (Ssh, 4)])
def test_a_push_that_is_cut_off_changes_nothing_here_and_the_next_one_arrives(
    kind: type[Server], cuts: int, known: Known, serve: Serve, tmp_path: Path, tally: Tally
) -> None:
    server = known(kind)
    wire = serve(Scissors, server)
    state = machine(tmp_path / "first", wire, versions=2)
    state.push()
    wire.cut_after(-1)
    commit(state, "x" * 3000)
    state.push()
    whole = wire.passed()
    codes = []

    for number in range(cuts):
        commit(state, f"{number}".ljust(3000, "x"))
        before = image(state)
        wire.cut_after(whole * number // (cuts - 1))
        try:
            state.push()
        except StateRemoteError as error:
            codes.append(error.code)
        server.settle()
        assert image(state) == before
        wire.cut_after(-1)
        state.push()
        assert server.refs()["refs/heads/main"] == next(state.log()).id

    judge_remote(server, state)
    assert len(codes) >= cuts // 2
    assert set(codes) <= {"remote-unreachable", "remote-protocol", "remote-auth"}
    tally("pushes that were cut off", len(codes))


@pytest.mark.parametrize("kind", [Daemon, Ssh, Http])
def test_a_server_that_is_killed_in_the_middle_of_a_push_gets_it_later(
    kind: type[Server], known: Known, tmp_path: Path
) -> None:
    server = known(kind)
    state = machine(tmp_path / "first", server, versions=2)
    state.push()
    before = server.refs()
    commit(state, 3)
    hook = server.repository / "hooks" / "pre-receive"
    hook.write_text(
        f"#!/bin/sh\nkill -9 {server.pid} $PPID\nsleep 1\n"
    )  # all is there but the refs
    hook.chmod(0o755)

    with unchanged(state, server=server), refused("remote-unreachable", "remote-protocol"):
        state.push()
    server.kill()
    hook.unlink()
    server.start()
    result = state.push()

    assert [update.old for update in result.updates] == [before["refs/heads/main"]]
    judge_remote(server, state)


def test_whenever_a_server_is_killed_the_state_is_as_it_was_and_the_next_push_arrives(
    known: Known, tmp_path: Path, seed: str, scale: Callable[[int, int], int], tally: Tally
) -> None:
    server = known(Daemon)
    state = machine(tmp_path / "first", server, versions=2)
    state.push()
    moments, failed = random.Random(seed), 0

    for number in range(scale(6, 50)):
        commit(state, f"{number}".ljust(100_000, "x"))
        before = image(state)
        death = threading.Timer(moments.uniform(0, 0.03), server.kill)
        death.start()
        try:
            state.push()
        except StateRemoteError:
            failed += 1
        death.join()
        assert image(state) == before
        server.start()
        state.push()
        assert server.refs()["refs/heads/main"] == next(state.log()).id

    judge_remote(server, state)
    tally("servers killed in the middle of a push", failed)


# -- forms of addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FileUrl, SshByScp])
def test_other_forms_of_an_address_lead_to_the_same(
    kind: type[Server], known: Known, tmp_path: Path
) -> None:
    server = known(kind)
    first = machine(tmp_path / "first", server, versions=2)

    first.push()
    second = clone(tmp_path / "second", server)

    judge_same(first, second)
    judge_remote(server, first)


def test_a_relative_path_means_the_same_from_everywhere(
    folder: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = machine(tmp_path / "first", versions=2)
    monkeypatch.chdir(tmp_path)

    state.remotes.add("origin", os.path.relpath(folder.repository))
    monkeypatch.chdir("/")
    state.push()

    assert state.remotes.list()[0].url == folder.url
    judge_remote(folder, state)


# -- remotes, and how they stand -----------------------------------------------------------------------------------


def test_remotes_are_kept_with_the_state(folder: Server, tmp_path: Path) -> None:
    state = machine(tmp_path / "first", versions=1)

    added = state.remotes.add("origin", folder.url, timeout=7.0)
    state.remotes.add("second", "git://host.invalid/x.git", push="auto")
    state.close()

    again = PipelineState(state.path)
    assert [each.name for each in again.remotes.list()] == ["origin", "second"]
    assert again.remotes.list()[0] == added
    assert (added.url, added.push, added.timeout) == (folder.url, "manual", 7.0)
    assert (state.path.parent / ".pipeline" / "remotes.json").is_file()
    again.remotes.remove("second")
    assert [each.name for each in again.remotes.list()] == ["origin"]
    again.close()


def test_a_remote_that_is_not_there_or_is_there_already_is_refused(
    folder: Server, tmp_path: Path
) -> None:
    state = machine(tmp_path / "first", folder, versions=1)

    for verb in (state.push, state.pull, state.remote_status, state.remotes.remove):
        with unchanged(state), refused("no-such-remote"):
            verb("elsewhere")
    with refused("remote-exists"):
        state.remotes.add("origin", "git://host.invalid/x.git")

    assert [each.url for each in state.remotes.list()] == [folder.url]


def test_a_dry_run_adds_no_remote_and_refuses_what_would_be_refused(
    folder: Server, tmp_path: Path
) -> None:
    state = machine(tmp_path / "first", versions=1)

    assert state.remotes.add("origin", folder.url, dry_run=True).url == folder.url
    assert state.remotes.list() == []
    state.remotes.add("origin", folder.url)
    for name, url, code in (
        ("origin", "git://host.invalid/x.git", "remote-exists"),
        ("x", "https://a:secret@host.invalid/x", "remote-url"),
        ("x", state.git_dir, "remote-url"),
        ("..", folder.url, "remote-name"),
    ):
        with refused(code):
            state.remotes.add(name, url, dry_run=True)

    assert [each.name for each in state.remotes.list()] == ["origin"]


def test_the_status_says_how_far_both_are_apart_without_asking(
    folder: Server, tmp_path: Path
) -> None:
    first = machine(tmp_path / "first", folder, versions=2)
    never = first.remote_status()
    first.push()
    second = clone(tmp_path / "second", folder)
    commit(second, "theirs")
    second.push()
    commit(first, "ours")
    with refused("remote-diverged"):
        first.push()
    folder.repository.rename(tmp_path / "away")

    status = first.remote_status()

    assert (never.ahead, never.behind, never.theirs, never.last_push) == (2, 0, None, None)
    assert status.theirs == second.version("HEAD").id
    assert (status.name, status.url, status.ahead) == ("origin", folder.url, 1)
    assert (status.behind, status.diverged, status.pushing) == (1, True, "manual")
    assert status.last_push is not None
    assert status.last_push.tzinfo is not None
    assert status.last_error


def test_progress_is_told_by_numbers_that_grow(folder: Server, tmp_path: Path) -> None:
    first = machine(tmp_path / "first", folder, versions=20)
    sent: list[Any] = []
    received: list[Any] = []

    first.push(progress=sent.append)
    clone(tmp_path / "second", folder, progress=received.append)

    assert {each.phase for each in sent} == {"sending"}
    assert {each.phase for each in received} <= {"receiving", "checking"}
    for each in (*sent, *received):
        assert each.total is None or 0 <= each.done <= each.total
    for phase in ("sending", "receiving", "checking"):
        done = [each.done for each in (*sent, *received) if each.phase == phase]
        assert done == sorted(done)


# -- what is pruned, and what is named -----------------------------------------------------------------------------


def _pruned(folder: Path, versions: int = 8) -> PipelineState:
    state = machine(folder, versions=versions, max_backups=3)
    state.prune()
    assert len(list(state.log())) == 4
    return state


def test_a_pruned_state_goes_where_a_boundary_is_taken_and_is_told_the_way_where_not(
    server: Server, tmp_path: Path
) -> None:
    state = _pruned(tmp_path / "first")
    state.remotes.add("origin", server.url)

    if not server.takes_a_boundary:
        with unchanged(state, server=server), refused("remote-shallow") as info:
            state.push()
        assert "reroot()" in str(info.value)
        assert server.refs() == {}
        state.reroot()
    state.push()

    judge_remote(server, state)
    judge_same(state, clone(tmp_path / "second", server, max_backups=3))
    commit(state, "later")
    state.push()
    judge_remote(server, state)


def test_a_new_root_keeps_states_and_the_audit_trail(tmp_path: Path) -> None:
    state = _pruned(tmp_path / "first")
    documents = [each.read() for each in state.log()]
    serials = [each.serial for each in state.log()]
    happened = [
        (line["timestamp"], line["operation"]) for line in state.get_transaction_history(None)
    ]

    state.reroot()

    assert [each.read() for each in state.log()] == documents
    assert [each.serial for each in state.log()] == serials
    assert (
        happened
        == [(line["timestamp"], line["operation"]) for line in state.get_transaction_history(None)][
            -len(happened) :
        ]
    )
    assert not (state.git_dir / "shallow").exists()
    judge_whole(state)


def test_what_a_remote_has_not_received_is_not_pruned(folder: Server, tmp_path: Path) -> None:
    state = machine(tmp_path / "first", folder, versions=8, max_backups=3)

    kept = state.prune()
    before = len(list(state.log()))
    state.push()
    gone = state.prune()

    assert (len(kept.versions), kept.held, before) == (0, ("origin",), 8)
    assert (gone.versions, gone.held) == (range(1, 5), ())
    assert [each.serial for each in state.log()] == [8, 7, 6, 5]
    assert len(folder.git("rev-list", "main").split()) == 8
    for number in range(9, 14):
        commit(state, number)
    state.prune()
    oldest = [each.serial for each in state.log()][-1]
    state.push()
    state.prune()
    assert oldest in {8, 9}  # of 10 to 13 it would be, were 9 there, too
    assert [each.serial for each in state.log()] == [13, 12, 11, 10]
    assert len(folder.git("rev-list", "main").split()) == 13
    judge_whole(state)


def test_a_name_that_was_deleted_here_does_not_come_back(folder: Server, tmp_path: Path) -> None:
    first = machine(tmp_path / "first", folder, versions=2)
    first.create_backup("unwanted")
    first.push()
    second = clone(tmp_path / "second", folder)
    commit(second, "theirs")
    second.push()

    first.delete_backup("unwanted")
    first.pull()

    assert value(first) == "theirs"
    assert "refs/backups/unwanted" not in refs(first)


def test_a_name_that_means_another_version_is_left_on_both_sides_and_noted(
    folder: Server, tmp_path: Path
) -> None:
    first = machine(tmp_path / "first", folder, versions=2)
    first.push()
    second = clone(tmp_path / "second", folder)
    first.create_backup("milestone")
    first.push()
    theirs = commit(second, "theirs")
    second.create_backup("milestone")
    ours = refs(first)["refs/backups/milestone"]

    pushed = second.push()
    pulled = first.pull()

    assert any("milestone" in line for line in pushed.notes)
    assert pulled.versions == 1
    assert refs(second)["refs/backups/milestone"] == theirs
    assert folder.refs()["refs/backups/milestone"] == ours
    assert refs(first)["refs/backups/milestone"] == ours
    assert folder.refs()["refs/heads/main"] == theirs == next(first.log()).id
    assert any("milestone" in line for line in second.pull().notes)


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_remote_that_went_backwards_is_noted(verb: str, folder: Server, tmp_path: Path) -> None:
    state = machine(tmp_path / "first", folder, versions=4)
    state.push()
    head = next(state.log()).id
    folder.git("update-ref", "refs/heads/main", "main~2")

    result = getattr(state, verb)()

    assert result.notes
    assert next(state.log()).id == head
    assert value(state) == 4
    state.push()
    assert folder.refs()["refs/heads/main"] == head


# -- credentials ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["environment", "netrc", "helper", "helper, name in the URL"])
def test_a_password_comes_from_where_git_would_look(
    way: str, serve: Serve, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(HttpWithPassword)
    url = server.url
    if way == "environment":
        for name, text in server.environment.items():
            monkeypatch.setenv(name, text)
    elif way == "netrc":
        (home / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
        (home / ".netrc").chmod(stat.S_IRUSR | stat.S_IWUSR)
    else:
        helper = home / "helper"
        helper.write_text(
            f"#!/bin/sh\n[ $1 = get ] || exit 0\necho username={USER}\necho password={PASSWORD}\n"
        )
        helper.chmod(0o755)
        (home / ".gitconfig").write_text(f'[credential]\n\thelper = "{helper}"\n')
    if "URL" in way:
        url = url.replace("://", f"://{USER}@")
    state = machine(tmp_path / "first", versions=2)
    state.remotes.add("origin", url)

    state.push()
    second = tmp_path / "second"
    second.mkdir()
    cloned = PipelineState.clone(url, second / "pipeline.json")

    judge_remote(server, state)
    judge_same(state, cloned)
    for each in (state, cloned):
        found = (each.path.parent / ".pipeline").rglob("*")
        assert not [
            file for file in found if file.is_file() and PASSWORD.encode() in file.read_bytes()
        ]


# -- by itself -----------------------------------------------------------------------------------------------------


def test_versions_arrive_by_themselves(known: Known, tmp_path: Path) -> None:
    server = known(Daemon)
    state = machine(tmp_path / "first", versions=1)
    state.remotes.add("origin", server.url, push="auto", timeout=10.0)

    for number in range(2, 6):
        head = commit(state, number)

    assert soon(lambda: server.refs().get("refs/heads/main") == head)
    assert soon(lambda: state.remote_status().pushing == "idle")
    state.close()
    judge_remote(server, PipelineState(state.path))


def test_a_remote_that_is_away_stops_nobody_and_gets_everything_when_it_is_back(
    known: Known, tmp_path: Path
) -> None:
    server = known(Daemon)
    state = machine(tmp_path / "first")
    state.remotes.add("origin", server.url, push="auto", timeout=3.0)
    first = commit(state, 1)
    assert soon(lambda: server.refs().get("refs/heads/main") == first)

    server.kill()
    for number in range(2, 6):
        head = commit(state, number)
    waits = soon(lambda: state.remote_status().pushing == "waiting")
    status = state.remote_status()
    server.start()
    head = commit(state, 6)

    assert waits
    assert status.last_error
    assert status.ahead >= 4
    assert soon(lambda: server.refs().get("refs/heads/main") == head, 60)
    assert soon(lambda: state.remote_status().last_error is None)
    state.close()
    judge_remote(server, PipelineState(state.path))


def test_closing_waits_until_the_last_version_has_arrived_and_has_it_go_at_once(
    known: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_BATCH_SECONDS", 3600.0)
    server = known(Daemon)
    state = machine(tmp_path / "first")
    state.remotes.add("origin", server.url, push="auto", timeout=10.0)

    head = commit(state, 1)
    state.close()

    assert server.refs()["refs/heads/main"] == head


def test_closing_does_not_wait_for_a_remote_that_has_failed(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "DRAIN_SECONDS", 30.0)
    server = serve(Daemon)
    state = machine(tmp_path / "first", versions=1)
    state.remotes.add("origin", server.url, push="auto", timeout=3.0)
    server.kill()

    commit(state, 2)
    with in_time():
        state.close()

    again = PipelineState(state.path)
    assert value(again) == 2
    assert objects(again)
    judge_whole(again)
