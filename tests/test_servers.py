"""The servers that the tests of remotes use: stock git is served by the real ones, and gives up with the bad ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import bad_servers
import pytest
from oracle import git_environment
from servers import (
    PASSWORD,
    REAL,
    USER,
    Bad,
    Daemon,
    FileUrl,
    Http,
    Https,
    HttpWithPassword,
    Scissors,
    Serve,
    Server,
    Ssh,
    SshByScp,
    closed_port,
    program,
)

KINDS = [*REAL.values(), FileUrl, SshByScp]
HELPER = (
    '!f() { echo "username=$GITSTATE_REMOTE_USER"; echo "password=$GITSTATE_REMOTE_PASSWORD"; }; f'
)


def _git(
    *arguments: str | os.PathLike[str], environment: dict[str, str], timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Stock git as a client that knows what `environment` says."""
    command = [program("git"), "-c", f"credential.helper={HELPER}", "-c", "protocol.version=0"]
    return subprocess.run(
        [*command, *map(os.fspath, arguments)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**git_environment(), "GIT_TERMINAL_PROMPT": "0", **environment},
        text=True,
        errors="backslashreplace",
        timeout=timeout,
    )


def _pushed(folder: Path, server: Server, url: str | None = None) -> str:
    """A commit that stock git has pushed from `folder`: its id."""
    environment = server.environment
    for arguments in (
        ("init", "-q", "--initial-branch=main", folder),
        ("-C", folder, "commit", "-q", "--allow-empty", "-m", "one"),
        ("-C", folder, "push", "-q", url or server.url, "main", "main:refs/backups/one"),
    ):
        done = _git(*arguments, environment=environment)
        assert done.returncode == 0, done.stderr
    return _git("-C", folder, "rev-parse", "main", environment=environment).stdout.strip()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_stock_git_pushes_to_a_real_server_and_clones_from_it(
    kind: type[Server], tmp_path: Path, serve: Serve
) -> None:
    server = serve(kind)

    commit = _pushed(tmp_path / "first", server)
    cloned = _git(
        "clone", "-q", "--mirror", server.url, tmp_path / "second", environment=server.environment
    )

    assert cloned.returncode == 0, cloned.stderr
    assert server.refs() == {"refs/backups/one": commit, "refs/heads/main": commit}
    there = _git("-C", tmp_path / "second", "for-each-ref", environment={}).stdout
    assert there == (f"{commit} commit\trefs/backups/one\n{commit} commit\trefs/heads/main\n")
    server.git("fsck", "--strict")


@pytest.mark.parametrize("kind", [Daemon, Ssh, Http, Https])
def test_a_server_comes_back_at_the_same_address(
    kind: type[Server], tmp_path: Path, serve: Serve
) -> None:
    server = serve(kind)
    url = server.url
    commit = _pushed(tmp_path / "first", server)

    for end in (server.stop, server.kill):
        end()
        away = _git("ls-remote", url, environment=server.environment)
        server.start()
        back = _git("ls-remote", url, "HEAD", environment=server.environment)

        assert away.returncode != 0
        assert server.url == url
        assert back.stdout == f"{commit}\tHEAD\n"


def test_no_two_servers_share_a_port_or_a_repository(serve: Serve) -> None:
    servers = [serve(kind) for kind in KINDS for _ in range(2)]

    urls = [server.url for server in servers]
    ports = [server.port for server in servers if server.port]

    assert len(set(urls)) == len(urls)
    assert len(set(ports)) == len(ports)


def test_ssh_refuses_another_key_and_a_client_refuses_another_host(serve: Serve) -> None:
    server = serve(Ssh)
    other = {"GIT_SSH_COMMAND": server.ssh_command(key="stranger") + " -oBatchMode=yes"}
    unknown = {"GIT_SSH_COMMAND": server.ssh_command(known_hosts="nobody") + " -oBatchMode=yes"}

    key = _git("ls-remote", server.url, environment=other)
    host = _git("ls-remote", server.url, environment=unknown)

    assert "Permission denied (publickey)" in key.stderr
    assert "Host key verification failed" in host.stderr


@pytest.mark.parametrize("kind", [HttpWithPassword, Https])
def test_a_web_server_refuses_another_password(kind: type[Server], serve: Serve) -> None:
    server = serve(kind)
    wrong = {**server.environment, "GITSTATE_REMOTE_PASSWORD": "guessed"}

    right = _git("ls-remote", server.url, environment=server.environment)
    refused = _git("ls-remote", server.url, environment=wrong)

    assert right.returncode == 0, right.stderr
    assert "Authentication failed" in refused.stderr
    assert server.environment["GITSTATE_REMOTE_USER"] == USER
    assert server.environment["GITSTATE_REMOTE_PASSWORD"] == PASSWORD


def test_nobody_trusts_the_certificate_who_was_not_told(serve: Serve) -> None:
    server = serve(Https)

    done = _git("ls-remote", server.url, environment={})

    assert "certificate verification failed" in done.stderr


@pytest.mark.parametrize("kind", [Daemon, Ssh, Http])
def test_a_wire_that_is_cut_lets_so_many_bytes_pass(
    kind: type[Server], tmp_path: Path, serve: Serve
) -> None:
    server = serve(kind)
    with Scissors(server) as wire:
        _pushed(tmp_path / "whole", server, wire.url)
        wire.cut_after(-1)
        whole = _git("ls-remote", wire.url, environment=wire.environment)
        all_of_it = wire.passed()

        wire.cut_after(all_of_it // 2)
        half = _git("ls-remote", wire.url, environment=wire.environment)
        passed = wire.passed()

        wire.cut_after(-1)
        again = _git("ls-remote", wire.url, environment=wire.environment)

    assert whole.returncode == 0, whole.stderr
    assert half.returncode != 0
    assert passed == all_of_it // 2
    assert again.stdout == whole.stdout


BAD = [
    ("closing", "git", "hung up|reset by peer|early EOF"),
    ("closing", "http", "Empty reply|reset by peer"),
    ("garbage", "git", "protocol error|bad line length"),
    ("garbage", "http", "HTTP/0.9|bad line|unsupported|Weird"),
    ("web_garbage", "http", "bad line length"),
    ("redirect", "http", "Couldn't connect|Failed to connect"),
    ("401", "http", "Authentication failed|could not read Username"),
    ("403", "http", "403"),
    ("404", "http", "not found"),
    ("500", "http", "500"),
]


@pytest.mark.parametrize(("kind", "scheme", "said"), BAD)
def test_stock_git_gives_up_with_a_bad_server(
    kind: str, scheme: str, said: str, serve: Serve
) -> None:
    words = [f"http://localhost:{closed_port()}"] if kind == "redirect" else []
    if kind.isdigit():
        kind, words = "status", [kind]
    server = serve(Bad, kind, *words, scheme=scheme)

    done = _git("ls-remote", server.url, environment={"GITSTATE_REMOTE_USER": "x"}, timeout=20)

    assert done.returncode == 128
    assert any(each in done.stderr for each in said.split("|")), done.stderr


@pytest.mark.parametrize("scheme", ["git", "http"])
@pytest.mark.parametrize("kind", ["silent", "trickle", "endless"])
def test_stock_git_waits_for_a_server_that_never_ends(kind: str, scheme: str, serve: Serve) -> None:
    name = "web_endless" if (kind, scheme) == ("endless", "http") else kind
    server = serve(Bad, name, *([scheme] if kind == "trickle" else []), scheme=scheme)

    with pytest.raises(subprocess.TimeoutExpired):
        _git("ls-remote", server.url, environment={}, timeout=1.5)


def test_a_redirect_leads_to_a_witness_who_writes_down_what_was_asked(
    tmp_path: Path, serve: Serve
) -> None:
    witness = serve(Bad, "witness", f"{tmp_path / 'asked'}", scheme="http")
    server = serve(Bad, "redirect", f"http://localhost:{witness.port}", scheme="http")

    done = _git("ls-remote", server.url, environment={})

    assert done.returncode != 0
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("GET /repository.git/info/refs?service=git-upload-pack HTTP/")


@pytest.mark.parametrize(("kind", "scheme"), [("bomb", "git"), ("web_bomb", "http")])
def test_a_bomb_fills_the_memory_that_stock_git_may_have(
    kind: str, scheme: str, tmp_path: Path, serve: Serve
) -> None:
    server = serve(Bad, kind, scheme=scheme)

    done = subprocess.run(
        [
            *("sh", "-c", 'ulimit -v 1000000 && exec "$@"', "sh", program("git")),
            *("clone", "--bare", server.url, f"{tmp_path / 'clone'}"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=git_environment(),
        check=False,
    )

    assert done.returncode != 0
    assert b"Out of memory" in done.stderr


def test_a_small_bomb_is_a_pack_that_git_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 2**25
    content = b"{}" + b" " * (size - 2)
    monkeypatch.setattr(bad_servers, "HUGE", size)
    monkeypatch.setattr(bad_servers, "HUGE_BLOB", bad_servers.hashed("blob", content))
    tip, by_deltas = bad_servers.delta_bomb()
    same, objects = bad_servers.stream_bomb()

    for name, pack in (("a", by_deltas), ("b", bad_servers.pack([each for _, each in objects]))):
        folder = tmp_path / name
        _git("init", "-q", "--bare", folder, environment={})
        (folder / "bomb.pack").write_bytes(pack)
        done = _git("-C", folder, "index-pack", "--strict", "bomb.pack", environment={})
        assert done.returncode == 0, done.stderr
        (folder / "bomb.pack").rename(folder / "objects/pack/pack-1.pack")
        (folder / "bomb.idx").rename(folder / "objects/pack/pack-1.idx")
        shown = _git("-C", folder, "cat-file", "-s", f"{tip}:pipeline.json", environment={}).stdout
        assert shown == f"{size}\n"
        assert len(pack) < 40_000
    assert same == tip
