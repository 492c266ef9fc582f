"""Transport: dulwich's clients, made to end in time, to ask nobody, and to tell the other side where history begins.

What runs over there, and here for a folder, is Git's own `receive-pack` and `upload-pack`, with that repository's hooks.
dulwich by itself waits for ever (PITFALLS D22), pushes a shallow history without saying so (D18), and asks ssh to ask.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import socket
from functools import partial
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, Final

import urllib3
from dulwich.client import (
    GitClient,
    SSHGitClient,
    SSHVendor,
    SubprocessGitClient,
    TCPGitClient,
    Urllib3HttpGitClient,
    default_urllib3_manager,
)
from dulwich.protocol import Protocol
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from gitstate.errors import StateRemoteError
from gitstate.sync.program import Late, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gitstate.sync.address import Address
    from gitstate.sync.credentials import Credentials
    from gitstate.sync.watch import Watch

_Connection = tuple[Protocol, "Callable[[], bool]", "IO[bytes] | None"]

TAKE_BOUNDARY: Final = b"git -c receive.shallowUpdate=true receive-pack"
"""What asks the other side to take a history whose beginning is not there (PITFALLS G4)."""


def open_client(
    address: Address,
    watch: Watch,
    credentials: Credentials | None = None,
    shallow: list[bytes] | None = None,
) -> GitClient:
    """A client for one contact, which ends with the `watch`.

    Where there is a list of `shallow` lines, the other side is asked to take a history that begins where they say; they may
    be filled in as long as nothing was sent.

    Raises:
        StateRemoteError: the program that it takes is not there, or the folder; codes `"remote-unreachable"`,
            `"remote-not-found"`.
    """
    # Packs that hold all that their deltas are against: they are checked before they meet what is here.
    common: dict[str, Any] = {"thin_packs": False}
    match address.kind:
        case "folder":
            _need_program("git", address)
            if not os.path.lexists(address.path):
                raise StateRemoteError(
                    f"there is no folder at {address.path}. Nothing was changed. git init --bare {shlex.quote(address.path)}"
                    " makes a repository there.",
                    url=address.url,
                    code="remote-unreachable",
                )
            return _Folder(watch, shallow, **common)
        case "ssh":
            _need_program("ssh", address)
            client = SSHGitClient(
                address.host, address.port, address.user, vendor=_Ssh(watch), **common
            )
            if shallow is not None:
                client.alternative_paths[b"receive-pack"] = TAKE_BOUNDARY
            return _announcing(client, shallow)
        case "git":
            return _announcing(_Tcp(address, watch, **common), shallow)
        case _:
            return _Http(address, watch, credentials, shallow, **common)


class _Folder(SubprocessGitClient):
    """A repository on this machine, by way of the `git` program."""

    def __init__(self, watch: Watch, shallow: list[bytes] | None, **common: Any) -> None:
        super().__init__(**common)
        self._watch, self._shallow = watch, shallow

    def _connect(
        self, cmd: bytes, path: bytes | str, protocol_version: int | None = None
    ) -> _Connection:
        del protocol_version  # the first one is spoken by every git
        place = path.decode(self._remote_path_encoding) if isinstance(path, bytes) else path
        command = shlex.split(TAKE_BOUNDARY.decode())
        if self._shallow is None:
            command = ["git", "receive-pack"]
        if cmd == b"upload-pack":
            command = ["git", "upload-pack"]
        program = Program([*command, place], self._watch)
        proto = Protocol(program.read, program.write, program.close)
        return _told(proto, cmd, self._shallow), program.can_read, Late(program)  # type: ignore[return-value]


class _Ssh(SSHVendor):
    """The user's own `ssh`, which asks nobody."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def run_command(  # type: ignore[override]  # as dulwich calls it
        self,
        host: str,
        command: bytes,
        username: str | None = None,
        port: int | None = None,
        protocol_version: int | None = None,
        **_: Any,
    ) -> Any:
        """Starts a command over there."""
        seconds = max(1, int(self._watch.seconds))
        ssh = ["ssh"]
        if own := os.environ.get("GIT_SSH_COMMAND"):
            ssh = ["sh", "-c", f'{own} "$@"', own]  # a shell runs it, as git has it: git(1)
        options = ["-x", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={seconds}"]
        options += ["-o", f"ServerAliveInterval={seconds}", "-o", "ControlMaster=no"]
        if protocol_version:
            options += ["-o", f"SetEnv=GIT_PROTOCOL=version={protocol_version}"]
        if port:
            options += ["-p", str(port)]
        login = f"{username}@{host}" if username else host
        program = Program([*ssh, *options, "--", login, os.fsdecode(command)], self._watch)
        return _Remote(program)


class _Remote:
    """A program over there, as dulwich's ssh client wants it."""

    def __init__(self, program: Program) -> None:
        self.read, self.write, self.close = program.read, program.write, program.close
        self.can_read = program.can_read
        self.stderr = Late(program)


class _Tcp(TCPGitClient):
    """`git://`, within a time."""

    def __init__(self, address: Address, watch: Watch, **common: Any) -> None:
        super().__init__(address.host, address.port, **common)
        self._watch = watch

    def _connect(
        self, cmd: bytes, path: bytes | str, protocol_version: int | None = None
    ) -> _Connection:
        place = path if isinstance(path, bytes) else path.encode(self._remote_path_encoding)
        fetching = cmd == b"upload-pack"
        self.protocol_version = (
            (2 if protocol_version is None else protocol_version) if fetching else 0
        )
        connected = socket.create_connection((self._host, self._port), self._watch.seconds)
        self._watch.guard(partial(connected.shutdown, socket.SHUT_RDWR))
        reader = connected.makefile("rb")

        def close() -> None:
            """Hangs up."""
            reader.close()
            connected.close()

        self._watch.at_end(close)
        proto = Protocol(self._watch.reading(reader.read), self._sending(connected), close)
        # Behind two zeros, as old servers stumble over more behind the first: gitprotocol-pack(5).
        version = b"\0\0version=%d\0" % self.protocol_version if self.protocol_version else b""
        proto.send_cmd(b"git-" + cmd, place, b"host=" + self._host.encode() + version)
        return proto, partial(_has_more, connected), None

    def _sending(self, connected: socket.socket) -> Callable[[bytes], int | None]:
        return self._watch.writing(connected.sendall)


class _Http(Urllib3HttpGitClient):
    """`http://` and `https://`, within a time; it goes nowhere but where it was told to."""

    def __init__(
        self,
        address: Address,
        watch: Watch,
        credentials: Credentials | None,
        shallow: list[bytes] | None,
        **common: Any,
    ) -> None:
        base = address.url
        if address.user:
            base = base.replace(base.split("/")[2], base.split("/")[2].rpartition("@")[2], 1)
        retries = urllib3.Retry(0, redirect=0, raise_on_redirect=False)
        pools = {
            "pool_manager_cls": partial(urllib3.PoolManager, retries=retries),
            "proxy_manager_cls": partial(urllib3.ProxyManager, retries=retries),
        }
        manager: Any = default_urllib3_manager(None, base_url=base, timeout=watch.seconds, **pools)  # type: ignore[arg-type]
        super().__init__(
            base,
            pool_manager=manager,
            timeout=watch.seconds,
            username=credentials.user if credentials else None,
            password=credentials.password if credentials else None,
            **common,
        )
        self._watch, self._shallow = watch, shallow
        watch.at_end(manager.clear)
        for scheme, pool in (("http", HTTPConnectionPool), ("https", HTTPSConnectionPool)):
            manager.pool_classes_by_scheme = {
                **manager.pool_classes_by_scheme,
                scheme: _watched_pool(pool, watch),
            }
        request = manager.request

        def remembered(*arguments: Any, **options: Any) -> Any:
            """A request as it is; dulwich leaves the answers that it does not like open."""
            response = request(*arguments, **options)
            watch.at_end(response.close)
            return response

        manager.request = remembered

    def _http_request(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        data: bytes | Iterator[bytes] | None = None,
        raise_for_status: bool = True,
    ) -> tuple[Any, Callable[[int], bytes]]:
        response, read = super()._http_request(url, headers, data, raise_for_status)
        return response, self._watch.reading(read)

    def _smart_request(
        self, service: str, url: str, data: bytes | Iterator[bytes] | None
    ) -> tuple[Any, Callable[[int], bytes]]:
        if service == "git-receive-pack" and data is not None:
            pieces = [data] if isinstance(data, bytes) else data
            data = map(self._passed_on, chain(self._shallow or (), pieces))
        return super()._smart_request(service, url, data)

    def _passed_on(self, piece: bytes) -> bytes:
        self._watch.wrote()
        return piece


def _watched_pool(pool: type[HTTPConnectionPool], watch: Watch) -> type[HTTPConnectionPool]:
    """A pool of connections that are cut if the remote is silent, however it drips."""

    class Connection(pool.ConnectionCls):  # type: ignore[name-defined, misc]
        """One of them."""

        def connect(self) -> None:
            """Connects."""
            super().connect()
            watch.guard(partial(self.sock.shutdown, socket.SHUT_RDWR))

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


def _announcing(client: Any, shallow: list[bytes] | None) -> GitClient:
    """`client`, which says where its history begins before it sends anything."""
    connect = client._connect  # noqa: SLF001  dulwich's own seam: each of its clients has this method

    def connecting(cmd: bytes, path: bytes, protocol_version: int | None = None) -> _Connection:
        """As the client does."""
        proto, can_read, complaints = connect(cmd, path, protocol_version)
        return _told(proto, cmd, shallow), can_read, complaints

    client._connect = connecting  # noqa: SLF001  as above
    return client  # type: ignore[no-any-return]


def _told(proto: Protocol, cmd: bytes, shallow: list[bytes] | None) -> Protocol:
    """The connection, whose first words are where history begins: gitprotocol-pack(5), `shallow`."""
    if cmd == b"receive-pack" and shallow is not None:
        write_line = proto.write_pkt_line
        left = shallow

        def write(line: bytes | None) -> None:
            """As the protocol does; where there is nothing to push, nothing is said before either."""
            if line is not None:
                while left:
                    proto.write(left.pop(0))
            write_line(line)

        proto.write_pkt_line = write  # type: ignore[method-assign]
    return proto


def _has_more(connected: socket.socket) -> bool:
    return bool(select.select([connected], [], [], 0)[0])


def _need_program(name: str, address: Address) -> None:
    if shutil.which(name) is None:
        raise StateRemoteError(
            f"the program {name} is not there, which it takes to speak to {address.url}. Nothing was changed. Install"
            f" {name}.",
            url=address.url,
            code="remote-unreachable",
        )


def path_of(address: Address) -> bytes:
    """The path that the client's methods take."""
    return b"" if address.kind in ("http", "https") else os.fsencode(address.path)
