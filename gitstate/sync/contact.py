"""Contact: one exchange with a remote, by whoever is let in; what goes wrong in it has a type."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from dulwich.client import HTTPUnauthorized

from gitstate.errors import StateError, StateRemoteError
from gitstate.progress import ProgressError
from gitstate.sync import credentials
from gitstate.sync.address import parse
from gitstate.sync.transport import open_client, path_of
from gitstate.sync.trouble import translate

if TYPE_CHECKING:
    from collections.abc import Callable

    from dulwich.client import GitClient

    from gitstate.remotes import Remote
    from gitstate.sync.watch import Watch

_Result = TypeVar("_Result")


class StopExchangeError(Exception):
    """What is raised in an exchange to end it, and is no fault of the remote."""


def speak(
    remote: Remote,
    watch: Watch,
    exchange: Callable[[GitClient, bytes], _Result],
    *,
    shallow: list[bytes] | None = None,
    said: list[str],
) -> _Result:
    """What an exchange with the remote gives, tried with the credentials that there are; `said` is what the other side says.

    With `shallow` it is asked to take a history that begins where these lines say, once the exchange has filled them in.

    Raises:
        StateRemoteError: it failed.
        StateError, StopExchangeError: what the exchange itself raised.
    """
    address = parse(remote.url)
    refusal: HTTPUnauthorized | None = None
    try:
        for known in credentials.candidates(address, watch.seconds):
            client = open_client(address, watch, known, shallow)
            try:
                result = exchange(client, path_of(address))
            except HTTPUnauthorized as error:
                credentials.settle(address, known, accepted=False)
                refusal = error
            else:
                credentials.settle(address, known, accepted=True)
                return result
    except StateRemoteError as error:
        error.remote = remote.name
        raise
    except (StateError, StopExchangeError, ProgressError):
        raise
    except Exception as error:
        # dulwich raises whatever a hostile answer makes it trip over (PITFALLS D9).
        raise translate(error, remote, watch, " ".join(said)) from error
    finally:
        watch.over()
    raise translate(refusal or HTTPUnauthorized(None, ""), remote, watch) from refusal
