"""Remotes that are not there, refuse, or talk nonsense: an error that says which, in time, and nothing changes here."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from machines import (
    TIMEOUT,
    commit,
    everything_said,
    holds,
    in_time,
    judge_remote,
    judge_whole,
    machine,
    refused,
    unchanged,
    value,
)
from oracle import needs_git
from servers import (
    PASSWORD,
    Bad,
    Daemon,
    Folder,
    Http,
    Https,
    HttpWithPassword,
    Serve,
    Server,
    Ssh,
    SshByScp,
    closed_port,
)

from gitstate import PipelineState, StateRemoteError

pytestmark = [needs_git, pytest.mark.usefixtures("home")]

VERBS = ("push", "pull", "clone")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[PipelineState]:
    """A state of two versions, which knows no remote."""
    with machine(tmp_path / "first", versions=2) as handle:
        yield handle


def _fails(state: PipelineState, url: str, *codes: str, verb: str = "push") -> StateRemoteError:
    """What `verb` is refused with at that address: in time, and with nothing changed."""
    if verb == "clone":
        folder = state.path.parents[1] / "clone"
        folder.mkdir()
        with in_time(), refused(*codes) as info:
            PipelineState.clone(url, folder / "pipeline.json", remote_timeout=TIMEOUT)
        assert os.listdir(folder) in ([], ["pipeline.json.lock"])
    else:
        state.remotes.add("origin", url, timeout=TIMEOUT)
        with unchanged(state), in_time(), refused(*codes) as info:
            getattr(state, verb)()
        assert info.value.remote == "origin"
        state.remotes.remove("origin")
    judge_whole(state)
    commit(state, "goes on")
    assert value(state) == "goes on"
    return info.value


# -- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "gopher://127.0.0.1/repository.git",
        "http://",
        "http://127.0.0.1:notaport/repository.git",
        "http://127.0.0.1:70000/repository.git",
        "git://",
        "ssh:///no/host.git",
        "ssh://-oProxyCommand=touch%20hacked/repository.git",
        "-oProxyCommand=touch hacked:repository.git",
        "ssh://127.0.0.1/-repository.git\nHost: other",
        "http://127.0.0.1/a\0b.git",
        "ext::sh -c touch% hacked",
    ],
)
def test_an_address_that_makes_no_sense_is_refused_at_once(
    url: str, state: PipelineState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with unchanged(state), in_time(), refused("remote-url"):
        state.remotes.add("origin", url, timeout=TIMEOUT)

    assert state.remotes.list() == []
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    "url",
    [
        f"http://somebody:{PASSWORD}@127.0.0.1/repository.git",
        f"https://:{PASSWORD}@127.0.0.1/repository.git",
        f"ssh://somebody:{PASSWORD}@127.0.0.1/repository.git",
    ],
)
@pytest.mark.parametrize("way", ["add", "clone"])
def test_a_password_in_an_address_is_refused_and_not_repeated(
    url: str, way: str, state: PipelineState, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    with unchanged(state), refused("remote-url") as info:
        if way == "add":
            state.remotes.add("origin", url)
        else:
            PipelineState.clone(url, tmp_path / "other.json")

    assert PASSWORD not in everything_said(info.value) + caplog.text
    assert holds(tmp_path, PASSWORD) == []


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("scheme", ["git", "http", "https", "ssh"])
@pytest.mark.parametrize("host", ["host.invalid", "127.0.0.1"])
def test_nobody_is_there(host: str, scheme: str, verb: str, state: PipelineState) -> None:
    url = f"{scheme}://{host}:{closed_port()}/repository.git"

    error = _fails(state, url, "remote-unreachable", verb=verb)

    assert error.url == url
    assert host in str(error)


def test_nobody_is_there_by_an_address_such_as_scp_takes(state: PipelineState) -> None:
    error = _fails(state, "somebody@host.invalid:repository.git", "remote-unreachable")

    assert "host.invalid" in str(error)


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_that_is_not_there_or_is_no_repository(
    verb: str, state: PipelineState, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("hello\n")

    _fails(state, f"{tmp_path / 'nowhere'}", "remote-unreachable", verb=verb)
    if verb != "clone":
        _fails(state, f"{tmp_path / 'empty'}", "remote-not-found", verb=verb)
        _fails(state, f"{tmp_path / 'file'}", "remote-not-found", verb=verb)

    assert os.listdir(tmp_path / "empty") == []


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", [Daemon, Ssh, Http])
def test_a_server_that_has_no_such_repository(
    kind: type[Server],
    verb: str,
    state: PipelineState,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = _known(serve(kind), monkeypatch)

    url = server.url.replace("repository.git", "other.git")

    _fails(state, url, "remote-not-found", verb=verb)


def _known(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    for name, text in server.environment.items():
        monkeypatch.setenv(name, text)
    return server


# -- who may come in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "verb"), [*((Ssh, verb) for verb in VERBS), (SshByScp, "push")])
@pytest.mark.parametrize("of", ["key", "host"])
def test_ssh_says_no_and_nobody_is_asked_for_anything(
    kind: type[Ssh],
    of: str,
    verb: str,
    state: PipelineState,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(kind)
    options = {"key": "stranger"} if of == "key" else {"known_hosts": "nobody"}
    port = f" -p {server.port}" if kind is SshByScp else ""
    monkeypatch.setenv("GIT_SSH_COMMAND", server.ssh_command(**options) + port)

    error = _fails(state, server.url, "remote-auth", verb=verb)

    said = "Permission denied" if of == "key" else "Host key verification failed"
    assert said in everything_said(error)
    assert not (server.folder / "nobody").exists()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", [HttpWithPassword, Https])
def test_a_wrong_password_is_refused_and_told_to_nobody(
    kind: type[Server],
    verb: str,
    state: PipelineState,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    server = _known(serve(kind), monkeypatch)
    monkeypatch.setenv("GITSTATE_REMOTE_PASSWORD", "wrong-" + PASSWORD)

    error = _fails(state, server.url, "remote-auth", verb=verb)

    assert PASSWORD not in everything_said(error) + caplog.text
    assert holds(tmp_path / "first", PASSWORD) == []


def test_no_password_at_all_is_refused_and_nobody_is_asked(
    state: PipelineState, serve: Serve
) -> None:
    _fails(state, serve(HttpWithPassword).url, "remote-auth")


def test_the_right_password_is_told_to_nobody_either(
    state: PipelineState,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    server = _known(serve(HttpWithPassword), monkeypatch)
    state.remotes.add("origin", server.url)

    state.push()
    server.kill()
    commit(state, 3)
    with refused("remote-unreachable") as info:
        state.push()

    assert PASSWORD not in everything_said(info.value) + caplog.text
    assert PASSWORD not in f"{state.remote_status()} {state.remotes.list()}"
    assert holds(tmp_path / "first", PASSWORD) == []


def test_a_certificate_that_nobody_vouches_for_is_refused(
    state: PipelineState, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = _known(serve(Https), monkeypatch)
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.delenv("GIT_SSL_CAINFO")

    error = _fails(state, server.url, "remote-auth", "remote-unreachable")

    assert "certificate" in everything_said(error)


# -- what a server refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Folder, Daemon, Ssh, Http])
@pytest.mark.parametrize("hook", ["pre-receive", "update"])
def test_a_hook_refuses_by_its_own_words(
    hook: str,
    kind: type[Server],
    state: PipelineState,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = _known(serve(kind), monkeypatch)
    script = server.repository / "hooks" / hook
    script.write_text("#!/bin/sh\necho 'not on a friday' >&2\nexit 1\n")
    script.chmod(0o755)

    error = _fails(state, server.url, "remote-refused")

    assert "not on a friday" in str(error) or hook in str(error)
    assert server.refs() == {}


@pytest.mark.parametrize("kind", [Folder, Daemon, Ssh, Http])
def test_a_full_disk_there_is_an_error_here(
    kind: type[Server],
    state: PipelineState,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root may mount a filesystem")
    server = _known(serve(kind), monkeypatch)
    state.remotes.add("origin", server.url, timeout=30.0)
    state.push()
    before = server.refs()
    disk = server.repository
    copy = tmp_path / "copy"
    disk.rename(copy)
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        shutil.copytree(copy, disk, dirs_exist_ok=True)
        with state.transaction() as txn:
            txn.data["phase2"] = {"metrics": {"noise": os.urandom(2_000_000).hex()}}

        # Git's daemon closes with most of the pack unread: TCP may then take back what it said before, reason and all.
        lost = {"remote-unreachable"} if kind is Daemon else set()
        with unchanged(state), refused("remote-refused", *lost) as info:
            state.push()

        assert server.refs() == before
        said = everything_said(info.value)
        assert info.value.code in lost or "space" in said or "unpack" in said
        server.settle()
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        state.push()
        judge_remote(server, state)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


# -- bad servers ---------------------------------------------------------------------------------------------------

GONE = ("remote-unreachable", "remote-protocol")
BAD: dict[str, tuple[Callable[[Serve], Any], tuple[str, ...]]] = {
    "git, silent": (lambda serve: serve(Bad, "silent"), ("remote-timeout",)),
    "http, silent": (lambda serve: serve(Bad, "silent", scheme="http"), ("remote-timeout",)),
    "https, silent": (lambda serve: serve(Bad, "silent", scheme="https"), ("remote-timeout",)),
    "ssh, silent": (lambda serve: serve(Bad, "silent", scheme="ssh"), ("remote-timeout",)),
    "git, trickle": (lambda serve: serve(Bad, "trickle", "git"), ("remote-timeout",)),
    "http, trickle": (
        lambda serve: serve(Bad, "trickle", "http", scheme="http"),
        ("remote-timeout",),
    ),
    "git, garbage": (lambda serve: serve(Bad, "garbage"), ("remote-protocol",)),
    "http, garbage": (lambda serve: serve(Bad, "garbage", scheme="http"), ("remote-protocol",)),
    "http, garbage behind a head": (
        lambda serve: serve(Bad, "web_garbage", scheme="http"),
        ("remote-protocol",),
    ),
    "https, garbage": (lambda serve: serve(Bad, "garbage", scheme="https"), GONE),
    "ssh, garbage": (lambda serve: serve(Bad, "garbage", scheme="ssh"), GONE),
    "git, closing": (lambda serve: serve(Bad, "closing"), GONE),
    "http, closing": (lambda serve: serve(Bad, "closing", scheme="http"), GONE),
    "ssh, closing": (lambda serve: serve(Bad, "closing", scheme="ssh"), GONE),
    "git, endless": (lambda serve: serve(Bad, "endless"), ("remote-timeout", "remote-protocol")),
    "http, endless": (
        lambda serve: serve(Bad, "web_endless", scheme="http"),
        ("remote-timeout", "remote-protocol"),
    ),
    "401": (lambda serve: serve(Bad, "status", "401", scheme="http"), ("remote-auth",)),
    "403": (
        lambda serve: serve(Bad, "status", "403", scheme="http"),
        ("remote-auth", "remote-refused"),
    ),
    "404": (lambda serve: serve(Bad, "status", "404", scheme="http"), ("remote-not-found",)),
    "500": (
        lambda serve: serve(Bad, "status", "500", scheme="http"),
        ("remote-protocol", "remote-refused", "remote-unreachable"),
    ),
}


HANGING = [
    *(("git, silent", verb) for verb in VERBS),
    *((f"{scheme}, silent", verb) for scheme in ("http", "ssh") for verb in ("push", "pull")),
    *((f"{scheme}, endless", "pull") for scheme in ("git", "http")),
    *((f"{scheme}, trickle", "pull") for scheme in ("git", "http")),
    ("https, silent", "push"),
]
"""Each of them takes the whole timeout: not every verb is tried with each."""


@pytest.mark.parametrize(
    ("which", "verb"),
    [
        *HANGING,
        *((which, verb) for which in BAD if which not in dict(HANGING) for verb in VERBS),
    ],
)
def test_a_bad_server_is_an_error_in_time(
    which: str, verb: str, state: PipelineState, serve: Serve
) -> None:
    start, codes = BAD[which]

    _fails(state, start(serve).url, *codes, verb=verb)


@pytest.mark.parametrize("verb", VERBS)
def test_a_password_is_not_taken_along_to_another_host(
    verb: str,
    state: PipelineState,
    serve: Serve,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = tmp_path / "asked"
    witness = serve(Bad, "witness", f"{asked}", scheme="http")
    server = serve(Bad, "redirect", f"http://localhost:{witness.port}", scheme="http")
    monkeypatch.setenv("GITSTATE_REMOTE_USER", "somebody")
    monkeypatch.setenv("GITSTATE_REMOTE_PASSWORD", PASSWORD)

    error = _fails(
        *(state, server.url, "remote-protocol", "remote-refused", "remote-not-found"),
        *("remote-url", "remote-unreachable"),
        verb=verb,
    )

    assert "authorization" not in (asked.read_text().lower() if asked.exists() else "")
    assert PASSWORD not in everything_said(error)


def test_a_server_that_redirects_to_itself_for_ever_is_given_up(
    state: PipelineState, serve: Serve
) -> None:
    server = serve(Bad, "redirect", "", scheme="http")

    _fails(
        *(state, server.url, "remote-protocol", "remote-refused", "remote-timeout"),
        *("remote-unreachable", "remote-not-found"),
    )


# -- a place that is taken -----------------------------------------------------------------------------------------


def test_a_clone_does_not_replace_what_is_there(
    state: PipelineState, serve: Serve, tmp_path: Path
) -> None:
    server = serve(Folder)
    state.remotes.add("origin", server.url)
    state.push()
    other = machine(tmp_path / "other", versions=1)
    lone = tmp_path / "lone.json"
    lone.write_text('{"phase1": {}}\n')

    with unchanged(other), refused("clone-exists"):
        PipelineState.clone(server.url, other.path)
    with refused("clone-exists"):
        PipelineState.clone(server.url, lone)

    assert lone.read_text() == '{"phase1": {}}\n'
    assert other.remotes.list() == []


def test_an_empty_remote_has_nothing_to_pull(state: PipelineState, serve: Serve) -> None:
    state.remotes.add("origin", serve(Folder).url)

    with unchanged(state):
        result = state.pull()

    assert (result.updates, result.versions) == ((), 0)
    assert result.version is not None
    assert result.version.id == next(state.log()).id


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_state_that_was_never_written_has_nothing_to_share(
    verb: str, serve: Serve, tmp_path: Path
) -> None:
    with PipelineState(tmp_path / "pipeline.json") as state:
        state.remotes.add("origin", serve(Folder).url)

        result = getattr(state, verb)()

        assert (result.updates, result.versions) == ((), 0)
        assert state.read() == {}
