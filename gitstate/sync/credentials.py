"""Credentials: who we are to a server that asks: from the environment, ~/.netrc, or git's credential helper.

They are used, never kept, and no error and no log names them. Source of the helper's format: git-credential(1).
"""

from __future__ import annotations

import netrc
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from gitstate.errors import StateRemoteError
from gitstate.sync.environment import PASSWORD, USER, for_git
from gitstate.sync.watch import kill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gitstate.sync.address import Address

_TELLING_SECONDS: Final = 5.0
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class Credentials(NamedTuple):
    """A user and a password, or a token in its place; whether git's credential helper gave them."""

    user: str
    password: str
    by_helper: bool = False

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, ...)"


def candidates(address: Address, seconds: float) -> Iterator[Credentials | None]:
    """What to try, one after the other, as long as the server asks for more; git's helper has so many seconds to answer.

    Raises:
        StateRemoteError: there are some, but they would be sent for everybody to read; code `"remote-auth"`.
    """
    if address.kind not in ("http", "https"):
        yield None
        return
    known = _from_environment(address) or _from_netrc(address)
    if known is not None:
        _refuse_open(address)
    yield known
    if known is None:
        asked = _helper("fill", _described(address), seconds)
        if asked is not None:
            _refuse_open(address)
            yield asked


def settle(address: Address, credentials: Credentials | None, *, accepted: bool) -> None:
    """Tells git's credential helper, if it gave them, whether the server took the credentials."""
    if credentials is not None and credentials.by_helper:
        fields = {
            **_described(address),
            "username": credentials.user,
            "password": credentials.password,
        }
        _helper("approve" if accepted else "reject", fields, _TELLING_SECONDS)


def _from_environment(address: Address) -> Credentials | None:
    password = os.environ.get(PASSWORD)
    if not password:
        return None
    # Servers that take a token do not look at the user, but there has to be one.
    return Credentials(address.user or os.environ.get(USER) or "token", password)


def _from_netrc(address: Address) -> Credentials | None:
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        found = netrc.netrc(os.fspath(path)).authenticators(address.host)
    except (OSError, RuntimeError):
        return None
    except (netrc.NetrcParseError, UnicodeDecodeError):
        raise StateRemoteError(
            f"the file of passwords cannot be read: {path}. Nothing was changed. Mend it: netrc(5).",
            url=address.url,
            code="remote-auth",
        ) from None  # the cause may quote a password
    if found is None or not found[2] or (address.user and found[0] not in ("", address.user)):
        return None
    return Credentials(found[0] or address.user or "", found[2])


def _described(address: Address) -> dict[str, str]:
    host = f"{address.host}:{address.port}" if address.port else address.host
    fields = {"protocol": address.kind, "host": host, "path": address.path.lstrip("/")}
    return {**fields, "username": address.user} if address.user else fields


def _helper(verb: str, fields: dict[str, str], seconds: float) -> Credentials | None:
    """What the helper answers; None where there is none, or it does not know."""
    program = shutil.which("git")
    # A line break in a value would be a field of its own: CVE-2020-5260.
    if program is None or any(_CONTROL.search(value) for value in fields.values()):
        return None
    # The hidden repository's own config is not to be obeyed (PITFALLS D25).
    environment = {**for_git(), "GIT_ASKPASS": "", "SSH_ASKPASS": ""}
    described = "".join(f"{key}={value}\n" for key, value in fields.items()) + "\n"
    try:
        asked = subprocess.Popen(  # noqa: S603  the user's own git
            [program, "-c", "core.askPass=", "credential", verb],
            cwd=os.path.abspath(os.sep),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            start_new_session=sys.platform != "win32",
        )
        with asked:
            try:
                answer = asked.communicate(described, timeout=seconds)[0]
            except BaseException:
                kill(asked)
                raise
    except (OSError, subprocess.TimeoutExpired, UnicodeError):
        return None
    found = dict(line.partition("=")[::2] for line in answer.splitlines())
    if verb != "fill" or not found.get("password"):
        return None
    return Credentials(found.get("username", ""), found["password"], by_helper=True)


def _refuse_open(address: Address) -> None:
    if address.kind == "http" and address.host not in _LOOPBACK:
        raise StateRemoteError(
            f"a password would be sent for everybody to read: {address.url}. Nothing was sent or changed. Use https.",
            url=address.url,
            code="remote-auth",
        )
