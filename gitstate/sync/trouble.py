"""Trouble: what goes wrong in a contact with a remote, told from what the client and the other side say about it."""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING, Final, NamedTuple

import urllib3.exceptions
from dulwich.client import HTTPProxyUnauthorized, HTTPUnauthorized
from dulwich.errors import NotGitRepository, SendPackError

from gitstate.errors import StateRemoteError
from gitstate.sync.program import ProgramError
from gitstate.sync.watch import TooMuchError
from gitstate.sync.words import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gitstate.remotes import Remote
    from gitstate.sync.watch import Watch


class _Kind(NamedTuple):
    code: str
    what: str
    advice: str


_TIMEOUT: Final = _Kind(
    code="remote-timeout",
    what="does not answer in time",
    advice="Try again, or add the remote with a longer timeout.",
)
_UNREACHABLE: Final = _Kind(
    code="remote-unreachable",
    what="cannot be reached",
    advice="Check the URL, the network, and the server's own log, and try again.",
)
_AUTH: Final = _Kind(
    code="remote-auth",
    what="does not let us in",
    advice="Check that `ssh -o BatchMode=yes` gets in there without being asked anything: the key, and the known host.",
)
_AUTH_BY_HTTP: Final = (
    "Check the password (GITSTATE_REMOTE_PASSWORD, ~/.netrc, git's credential helper), and the certificate"
    " (SSL_CERT_FILE names one that is not public)."
)
_NOT_FOUND: Final = _Kind(
    code="remote-not-found",
    what="has no repository there",
    advice="Check the path; `git init --bare` makes one on the machine where it is to be.",
)
_PROTOCOL: Final = _Kind(
    code="remote-protocol",
    what="answers what is not Git's protocol",
    advice="Check that the URL is that of a Git repository, and try again.",
)
_REFUSED: Final = _Kind(
    code="remote-refused",
    what="does not take it",
    advice="Its own words say why: a hook, a full disk, a permission. Mend that there, and push again.",
)

_TYPES: Final[tuple[tuple[tuple[type[BaseException], ...], _Kind], ...]] = (
    ((HTTPUnauthorized, HTTPProxyUnauthorized, ssl.SSLCertVerificationError), _AUTH),
    ((NotGitRepository,), _NOT_FOUND),
    ((SendPackError,), _REFUSED),
    ((TooMuchError, MemoryError, ssl.SSLError), _PROTOCOL),
    (
        (
            urllib3.exceptions.NewConnectionError,
            socket.gaierror,
            ConnectionError,
            ProgramError,
        ),
        _UNREACHABLE,
    ),
    ((TimeoutError, urllib3.exceptions.TimeoutError), _TIMEOUT),
)
"""What an error is, told by its type, or by that of what it is about; the more certain first."""

_SAID: Final = (
    (
        re.compile(r"permission denied \(|host key verification|authentication failed"),
        _AUTH,
    ),
    (
        re.compile(
            r"not appear to be a git repository|not a git repository|invalid gitfile|repository not (found|exported)"
            r"|no such (file|repository)"
        ),
        _NOT_FOUND,
    ),
    (re.compile(r"unexpected http resp 40[137]"), _AUTH),
    (re.compile(r"dubious ownership|insufficient permission"), _REFUSED),
    (re.compile(r"command not found|: not found"), _UNREACHABLE),
    (re.compile(r"timed out|timeout"), _TIMEOUT),
    (
        re.compile(
            r"could not resolve|name or service not known|connection (refused|reset|closed)|no route|unreachable"
            r"|unexpected http resp 5"
        ),
        _UNREACHABLE,
    ),
)
"""What ssh and git complain of, in small letters, the more certain first."""


def translate(
    error: BaseException, remote: Remote, watch: Watch | None = None, said: str = ""
) -> StateRemoteError:
    """The error that `error` is to a user, with what the other side has `said`; no secret is in it."""
    kind = _TIMEOUT if watch is not None and watch.expired else _kind_of(error, said)
    words = quoted(said or _words_of(error))
    advice = _AUTH_BY_HTTP if kind is _AUTH and remote.url.startswith("http") else kind.advice
    return StateRemoteError(
        f"{remote.name} {kind.what}: {remote.url}{': ' + words if words else ''}. Nothing was changed here, and nothing is"
        f" lost. {advice}",
        remote=remote.name,
        url=remote.url,
        code=kind.code,
    )


def _kind_of(error: BaseException, said: str) -> _Kind:
    chain = list(_chain(error))
    for types, kind in _TYPES:
        if any(isinstance(each, types) for each in chain):
            return kind
    words = f"{said} {_words_of(error)}".lower()
    for pattern, kind in _SAID:
        if pattern.search(words):
            return kind
    return _UNREACHABLE if isinstance(error, OSError) else _PROTOCOL


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it is about."""
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        seen.append(found)
        yield found
        found = _reason_of(found) or found.__cause__ or found.__context__


def _reason_of(error: BaseException | None) -> BaseException | None:
    reason = getattr(error, "reason", None)
    return reason if isinstance(reason, BaseException) else None


def _words_of(error: BaseException) -> str:
    if isinstance(error, NotGitRepository):
        return ""
    if isinstance(error, SendPackError) and error.args and isinstance(error.args[0], bytes):
        return error.args[0].decode(errors="replace")
    # What urllib3 says of several tries is long, and why the last one failed is what counts.
    text = str(list(_chain(error))[-1] if _reason_of(error.__cause__) else error)
    return text if isinstance(error, OSError) or " " in text else f"{type(error).__name__}: {text}"
