"""Git servers on loopback for tests: real ones, and bad ones. Each has a port, a folder and a repository of its own.

    with Ssh(tmp_path / "server") as server:
        push_to(server.url, server.environment)

However the test ends, nothing of a server stays. Where a program is missing, the test is skipped and says so.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import pytest
from oracle import git_environment

BAD = Path(__file__).with_name("bad_servers.py")
USER, PASSWORD = "somebody", "hunter2-Zq"
"""Who may push by `HttpWithPassword`; nothing that a test leaves anywhere may hold the password."""

PATIENCE = 20.0
"""Seconds until a server must listen; a loaded machine takes its time."""

PACKAGES = {
    "git": "git",
    "git-daemon": "git",
    "git-http-backend": "git",
    "lighttpd": "lighttpd",
    "openssl": "openssl",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
}


def program(name: str) -> str:
    """Where it is; skips the test if it is not installed."""
    places = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"]
    if name.startswith("git-") and (stock := shutil.which("git")):
        done = subprocess.run([stock, "--exec-path"], capture_output=True, check=True, text=True)
        places.append(done.stdout.strip())
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: {PACKAGES[name]})")
    return found


def run(*command: str | os.PathLike[str], stdin: bytes = b"") -> str:
    """What it prints; a failure is an exception that tells what it said."""
    done = subprocess.run(
        [os.fspath(word) for word in command],
        check=False,
        input=stdin,
        capture_output=True,
        env=git_environment(),
    )
    assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')}"
    return done.stdout.decode(errors="surrogateescape")


class Server:
    """A bare repository, and what a client needs to come to it.

    Attributes:
        url: where a client finds `repository`.
        repository: the bare repository.
        environment: variables that a client needs.
        port: where it listens; None if it does not.
    """

    takes_a_boundary: ClassVar[bool] = False
    """Whether a push from a pruned store may make an empty repository a shallow one (PITFALLS G4)."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.repository = folder / "repository.git"
        self.environment: dict[str, str] = {}
        self.port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        run(program("git"), "init", "-q", "--bare", "--initial-branch=main", self.repository)
        self.prepare()
        try:
            self.start()
        except BaseException:
            self.kill()
            raise

    @property
    def url(self) -> str:
        return os.fspath(self.repository)

    @property
    def pid(self) -> int:
        """The process that listens."""
        assert self._process is not None
        return self._process.pid

    def prepare(self) -> None:
        """Makes what is made once: keys, passwords."""

    def command(self) -> list[str] | None:
        """Writes the configuration for `port`; the command that serves there, in the foreground."""

    def start(self) -> None:
        """Listens: again at the same port if it has listened before."""
        for _ in range(5):
            again = self.port is not None
            self.port = self.port or _free_port()
            command = self.command()
            if command is None:
                self.port = None
                return
            with (self.folder / "server.log").open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=git_environment(),
                    cwd=self.folder,
                )
            if self._listens():
                return
            self.kill()
            if not again:  # somebody else took the port meanwhile
                self.port = None
        pytest.fail(
            f"{command} does not listen: {(self.folder / 'server.log').read_text()[-2000:]}"
        )

    def stop(self) -> None:
        """Ends it as a system does that shuts down, whoever is being served."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once, and whatever it has started."""
        self._end(signal.SIGKILL)

    def settle(self) -> None:
        """Waits until it serves nobody: whoever was cut off may still be at work there."""
        end = time.monotonic() + PATIENCE
        while self._process and _descendants(self._process.pid):
            assert time.monotonic() < end, "it does not come to rest"
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def git(self, *arguments: str | os.PathLike[str], stdin: bytes = b"") -> str:
        """Stock git in the repository."""
        return run(program("git"), "--git-dir", self.repository, *arguments, stdin=stdin)

    def refs(self) -> dict[str, str]:
        """What the repository's refs name, by their names."""
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.split() for line in lines)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self.port is not None
        end = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                # Somebody else's answers, too; then ours finds the port taken, and ends.
                time.sleep(0.02)
                return self._process.poll() is None
            time.sleep(0.01)
        return False

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        family = _descendants(process.pid)
        process.send_signal(number)
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in family:  # sshd gives each connection a session of its own
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Folder(Server):
    """No server at all: the path of a folder."""

    takes_a_boundary = True


class FileUrl(Folder):
    """The same by a `file://` URL."""

    @property
    def url(self) -> str:
        return self.repository.as_uri()


class Daemon(Server):
    """`git daemon`, which lets everybody push."""

    @property
    def url(self) -> str:
        return f"git://127.0.0.1:{self.port}/repository.git"

    def command(self) -> list[str]:
        return [
            program("git-daemon"),
            "--export-all",
            "--enable=receive-pack",
            "--reuseaddr",
            "--listen=127.0.0.1",
            f"--port={self.port}",
            f"--base-path={self.folder}",
            f"{self.folder}",
        ]


class Ssh(Server):
    """OpenSSH's sshd, with keys of its own on both sides; it runs as whoever runs the tests."""

    takes_a_boundary = True

    @property
    def url(self) -> str:
        return f"ssh://{_login()}@127.0.0.1:{self.port}{self.repository}"

    def prepare(self) -> None:
        _login()
        for key in ("host", "client", "stranger"):
            run(program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key)
        shutil.copy(self.folder / "client.pub", self.folder / "authorized_keys")
        host = (self.folder / "host.pub").read_text().split()[:2]
        (self.folder / "known_hosts").write_text(f"gitstate-test {' '.join(host)}\n")
        self.environment = {"GIT_SSH_COMMAND": self.ssh_command()}

    def ssh_command(self, *, key: str = "client", known_hosts: str = "known_hosts") -> str:
        """How to come here; whoever is in front of it, under whatever port, has the same host key.

        Neither BatchMode nor a timeout is among the options: the client is to ask for them (PITFALLS D22).
        """
        options = {
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "HostKeyAlias": "gitstate-test",
            "UserKnownHostsFile": self.folder / known_hosts,
            "GlobalKnownHostsFile": os.devnull,
        }
        words = [program("ssh"), "-F", os.devnull, "-i", os.fspath(self.folder / key)]
        return shlex.join([*words, *(f"-o{name}={value}" for name, value in options.items())])

    def command(self) -> list[str]:
        sshd = program("sshd")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        (self.folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\n"
            f"Port {self.port}\n"
            f"HostKey {self.folder}/host\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\n"
            f"PidFile none\n"
            f"UsePAM no\n"
            f"StrictModes no\n"  # folders of tests are in /tmp
            f"PermitRootLogin prohibit-password\n"
            f"PasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\n"
            f"MaxStartups 100\n"
            f"KexAlgorithms curve25519-sha256\n"  # the others take a third of a second
            # By its level the shell believes that it is another's, and leaves its .bashrc alone.
            f"SetEnv GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL={os.devnull} SHLVL=1\n"
        )
        return [sshd, "-D", "-e", "-f", f"{self.folder}/sshd_config"]


class SshByScp(Ssh):
    """The same by an address such as scp takes, which has no place for a port."""

    @property
    def url(self) -> str:
        return f"{_login()}@127.0.0.1:{self.repository}"

    def start(self) -> None:
        super().start()
        self.environment = {"GIT_SSH_COMMAND": f"{self.ssh_command()} -p {self.port}"}


class Http(Server):
    """`git-http-backend` behind lighttpd."""

    auth: ClassVar[bool] = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/git/repository.git"

    def prepare(self) -> None:
        # Without it git-http-backend takes pushes only from whom the web server knows.
        if not self.auth:
            self.git("config", "http.receivepack", "true")

    def command(self) -> list[str]:
        lighttpd, backend = program("lighttpd"), program("git-http-backend")
        modules = [f'"{name}"' for name in ("mod_alias", "mod_setenv", "mod_cgi")]
        protection = ""
        if self.auth:
            modules[:0] = ['"mod_auth"', '"mod_authn_file"']
            (self.folder / "passwords").write_text(f"{USER}:{PASSWORD}\n")
            protection = (
                f'auth.backend = "plain"\n'
                f'auth.backend.plain.userfile = "{self.folder}/passwords"\n'
                f'auth.require = ("/" => ("method" => "basic", "realm" => "git", "require" => "valid-user"))\n'
            )
        (self.folder / "lighttpd.conf").write_text(
            f"server.modules = ({', '.join(modules)})\n"
            f'server.bind = "127.0.0.1"\n'
            f"server.port = {self.port}\n"
            f'server.document-root = "{self.folder}"\n'
            f'server.upload-dirs = ("{self.folder}")\n'
            f'alias.url = ("/git" => "{backend}")\n'
            f'cgi.assign = ("" => "")\n'
            f'setenv.add-environment = ("GIT_PROJECT_ROOT" => "{self.folder}", "GIT_HTTP_EXPORT_ALL" => "",'
            f' "GIT_CONFIG_NOSYSTEM" => "1", "GIT_CONFIG_GLOBAL" => "{os.devnull}")\n{protection}'
        )
        return [lighttpd, "-D", "-f", f"{self.folder}/lighttpd.conf"]


class HttpWithPassword(Http):
    """The same for those who know the password, which the environment holds."""

    auth = True

    def prepare(self) -> None:
        super().prepare()
        self.environment = {"GITSTATE_REMOTE_USER": USER, "GITSTATE_REMOTE_PASSWORD": PASSWORD}


class Https(HttpWithPassword):
    """And by TLS, with a certificate that nobody knows but who has `SSL_CERT_FILE`; git calls that GIT_SSL_CAINFO."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._front.port}/git/repository.git"

    def prepare(self) -> None:
        super().prepare()
        self._key, certificate = self.folder / "tls.key", self.folder / "tls.crt"
        run(
            *(program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", self._key, "-out", certificate),
        )
        self._certificate = certificate
        self.environment |= {"SSL_CERT_FILE": f"{certificate}", "GIT_SSL_CAINFO": f"{certificate}"}

    def start(self) -> None:
        super().start()
        arguments = (f"{self.port}", f"{self._certificate}", f"{self._key}")
        self._front = Bad("tls", *arguments, port=self._front.port if self._ever else 0)

    @property
    def _ever(self) -> bool:
        return hasattr(self, "_front")

    def _end(self, number: signal.Signals) -> None:
        if self._ever:
            self._front.stop()
        super()._end(number)


REAL: dict[str, type[Server]] = {
    "folder": Folder,
    "git daemon": Daemon,
    "ssh": Ssh,
    "http": Http,
    "http with a password": HttpWithPassword,
    "https": Https,
}


class Bad:
    """One of the servers in `bad_servers.py`, in a process of its own.

    Args:
        kind: which.
        arguments: what that kind wants to know.
        scheme: how its `url` begins.
        port: where it is to listen; 0 for anywhere.
    """

    environment: ClassVar[dict[str, str]] = {}

    def __init__(self, kind: str, *arguments: str, scheme: str = "git", port: int = 0) -> None:
        # The port is ours, and clients wait in its queue, before the process has begun.
        with socket.create_server(("127.0.0.1", port), backlog=100) as listener:
            self.port: int = listener.getsockname()[1]
            self._process = subprocess.Popen(
                [sys.executable, "-I", BAD, kind, f"{listener.fileno()}", *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
            )
        self.url = f"{scheme}://127.0.0.1:{self.port}/repository.git"

    def stop(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()

    kill = stop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Scissors:
    """A server behind a wire that is cut when so many bytes have passed, in both directions together.

    Attributes:
        url: the server's, by that wire.
        environment: the server's.
    """

    def __init__(self, server: Server) -> None:
        self._orders, self._report = server.folder / "cut-after", server.folder / "passed"
        self._orders.write_text("0 -1")
        self._turn = 0
        self._wire = Bad("cut", f"{server.port}", f"{self._orders}", f"{self._report}")
        self.url = server.url.replace(f":{server.port}/", f":{self._wire.port}/")
        self.environment = server.environment

    def cut_after(self, passed: int) -> None:
        """Cuts each connection from now on when so many bytes have passed since now; -1 for never."""
        self._turn += 1
        self._report.unlink(missing_ok=True)
        scratch = self._orders.with_suffix(".new")
        scratch.write_text(f"{self._turn} {passed}")
        scratch.rename(self._orders)

    def passed(self) -> int:
        """How many bytes have passed since `cut_after`, when the client has gone."""
        return int(self._report.read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.stop()


S = TypeVar("S", bound="Server | Bad | Scissors")


class Serve:
    """Starts servers of any kind, each in a folder of its own; what started it ends them."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder, self._stack, self._count = folder, stack, 0

    def __call__(self, kind: type[S], *arguments: Any, **options: Any) -> S:
        """A running one."""
        if issubclass(kind, Server):
            self._count += 1
            arguments = (self._folder / f"{self._count}", *arguments)
        return self._stack.enter_context(kind(*arguments, **options))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def closed_port() -> int:
    """A port at which nobody listens."""
    return _free_port()


def _login() -> str:
    """Who runs the tests, as sshd must know them."""
    import pwd

    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        pytest.skip("whoever runs the tests has no account, which sshd asks for")
    if entry.pw_shell.endswith(("/nologin", "/false")):
        pytest.skip(f"{entry.pw_name} has no shell, which sshd asks for")
    return entry.pw_name


def _descendants(pid: int) -> list[int]:
    """Those that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    family = list(children.get(pid, ()))
    for each in family:
        family.extend(children.get(each, ()))
    return family
