"""Address: what a remote's URL says, in the forms that Git takes: git-clone(1), GIT URLS.

A folder, `file://`, `ssh://` or `user@host:path`, `git://`, `http://` and `https://`; nothing that names a program.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from gitstate.errors import StateRemoteError

_SCP: Final = re.compile(
    r"(?:(?P<user>[^@/:]+)@)?(?P<host>\[[0-9a-fA-F:]+\]|[^/:@\[\]]+):(?P<path>.*)"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PASSWORD: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:/{0,2})?[^@/:]*:(?!//)[^@]*@")
_TOKEN: Final = re.compile(r"(?:gh[a-z]_|github_pat_|glpat-|ATBB|ATCTT)\w+@")
"""What hosts of Git call what stands for a password, where the user should be."""

_NO_SLASHES: Final = re.compile(r"(?:https?|ssh|git|file):(?!//)", re.IGNORECASE)
_OPEN: Final = (
    "it holds a password, which would stand in a file. Give it without, and the password by"
    " GITSTATE_REMOTE_USER and GITSTATE_REMOTE_PASSWORD, in ~/.netrc, or by git's credential helper"
)
_HELPER: Final = re.compile(r"[A-Za-z0-9+.-]+::")
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")

Kind = Literal["folder", "ssh", "git", "http", "https"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a remote is.

    Attributes:
        kind: how it is spoken to.
        url: all of it as one text, which has no password.
        path: where the repository is, there.
        host: the machine; `""` for a folder.
        port: None for the usual one.
        user: who logs in, None if the URL does not say.
    """

    kind: Kind
    url: str
    path: str
    host: str = ""
    port: int | None = None
    user: str | None = None

    @property
    def may_be_asked(self) -> bool:
        """Whether the program over there is started by us, so that it can be told what to take."""
        return self.kind in ("folder", "ssh")


def parse(url: str | os.PathLike[str]) -> Address:
    """The address that `url` is; a relative folder is taken from where we are.

    Raises:
        StateRemoteError: it is none, or holds a password; code `"remote-url"`.
        TypeError: it is no text.
    """
    text = os.fspath(url)
    if not isinstance(text, str):
        raise TypeError(f"url must be a str or a path of str, not {url!r}")
    if not text.strip() or _CONTROL.search(text):
        raise _refused(text, "it is empty, or has control characters")
    if _HELPER.match(text):
        raise _refused(text, "it names a program of Git's to be run")
    if _PASSWORD.match(text) or _TOKEN.search(text):
        raise _refused(text, _OPEN)
    if "://" in text:
        return _of_scheme(text)
    if _NO_SLASHES.match(text):
        raise _refused(text, "two slashes are to follow the colon")
    match = _SCP.fullmatch(text)
    if match and not os.path.lexists(text) and not _DRIVE.match(text):
        host = match["host"].strip("[]")
        return _checked(Address("ssh", text, match["path"], host, None, match["user"]))
    folder = os.path.abspath(os.path.expanduser(text))
    return Address("folder", folder, folder)


def _of_scheme(text: str) -> Address:
    parts, host, port = None, "", None
    with contextlib.suppress(ValueError):
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    if parts is None or (
        port is None and parts.netloc.rpartition("@")[2].count(":") > host.count(":")
    ):
        raise _refused(text, "its host or its port is none")
    path, user = unquote(parts.path), unquote(parts.username) if parts.username else None
    if parts.password is not None or ":" in (user or "") or "@" in parts.path.partition("/")[0]:
        raise _refused(text, _OPEN)
    if _CONTROL.search(f"{path}{user or ''}{unquote(host)}"):
        raise _refused(text, "it has control characters")
    match parts.scheme.lower():
        case "file" if host in ("", "localhost") and path.startswith("/"):
            return Address("folder", path, path)
        case "ssh" | "git+ssh" | "ssh+git":
            # What follows /~ is a home folder over there.
            home = path[1:] if path.startswith("/~") else path
            return _checked(Address("ssh", text, home, host, port, user))
        case "git" if user is None:
            return _checked(Address("git", text, path, host, port))
        case "http" | "https" as kind if not parts.query and not parts.fragment:
            return _checked(Address(kind, text, path, host, port, user))
    raise _refused(
        text,
        "expected a folder, file://, ssh://, user@host:path, git://, http:// or https://",
    )


def _checked(address: Address) -> Address:
    # What begins with a dash would be an option of the program that is started: CVE-2017-1000117.
    if not address.host or not address.path.strip("/"):
        raise _refused(address.url, "it names no host, or no repository there")
    if any(each.startswith("-") for each in (address.host, address.path, address.user or "")):
        raise _refused(address.url, "a host, user or path cannot begin with a dash")
    return address


def _refused(text: str, why: str) -> StateRemoteError:
    # It may be a password wherever it stands: of what is before an @, and behind a question mark, nothing is repeated.
    _, at, rest = text.rpartition("@")
    url = ("..." if at else "") + at + rest.partition("?")[0]
    url = repr(url)
    return StateRemoteError(
        f"a remote cannot be at {url}: {why}. Nothing was changed.", url=url, code="remote-url"
    )
