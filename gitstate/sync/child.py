"""The child process that fetches: it reads what a remote sends, within limits, and says what it is.

`python -m gitstate.sync.child` reads one line, what it is to fetch, as JSON, and writes lines of JSON: how far it is, and
at the end what it has found, or what is wrong. It ends when its parent does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gitstate.draft import ARCHIVE, BACKUPS, FAILURES, IMPORTED, UNVERSIONED
from gitstate.errors import StateError, StateReadError
from gitstate.registry import open_store
from gitstate.remotes import Remote
from gitstate.repository import BRANCH
from gitstate.repository.indexing import Limits, index_pack
from gitstate.sync import program
from gitstate.sync.contact import StopExchangeError, speak
from gitstate.sync.fetch import Request
from gitstate.sync.inspection import Inspection
from gitstate.sync.watch import Watch
from gitstate.sync.words import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dulwich.client import FetchPackResult, GitClient

    from gitstate.repository.objects import Raw

MAX_STATE: Final = 256 * 1024 * 1024
"""Bytes of a state that is taken from a remote at most."""

_MEMORY: Final = 4 * 1024 * 1024 * 1024
_PACK: Final = 8 * 1024 * 1024 * 1024
_CPU_SECONDS: Final = 3600
_LIMITS: Final = Limits(
    objects=10_000_000, object_size=MAX_STATE, total_size=1024 * 1024 * 1024 * 1024, depth=4096
)
_TELL_EVERY: Final = 500
_TELL_SECONDS: Final = 1.0
_TELL_BYTES: Final = 64 * 1024
_TRAILS: Final = (FAILURES, UNVERSIONED, IMPORTED)
_KEPT: Final = (BRANCH, *_TRAILS)


_PREFIXES: Final = [
    BRANCH.encode(),
    BACKUPS.encode(),
    b"refs/audit/",
    *map(bytes, zip(b"0123456789abcdef")),
]
"""What the refs of interest begin with. A server that speaks the first version of the protocol lists among them where its
history ends, as an id in place of a name: gitprotocol-pack(5), `shallow`."""


class _DiskError(StopExchangeError):
    """There is no room for what the remote sends."""


class _Haves:
    """What is here, told to the remote: the newest first, as dulwich asks for it."""

    def __init__(self, request: Request) -> None:
        self._left = iter(request.haves)
        self.shallow = {each.encode() for each in request.shallow}

    def __next__(self) -> bytes | None:
        found = next(self._left, None)
        return found.encode() if found else None

    def next(self) -> bytes | None:
        """The next one."""
        return self.__next__()

    def ack(self, _: bytes) -> None:
        """The remote has that one: what is before it need not be told, but is little."""

    def nak(self) -> None:
        """The remote has none of them so far."""


class _Fetching:
    """One fetch into the quarantine `place`."""

    def __init__(self, remote: Remote, request: Request, place: Path) -> None:
        self._remote = remote
        self._request = request
        self._pack = place / "objects" / "pack" / "fetched.pack"
        self._watch = Watch(remote.timeout)
        self._refs: dict[str, str] = {}
        # Of the ends that we have told it the remote does not speak again.
        self._shallow = set(request.shallow)
        self._has, self._read = _local(request)

    def run(self) -> dict[str, Any]:
        """What was fetched, as the parent understands it."""
        said: list[str] = []
        watch = self._watch
        with open(self._pack, "wb") as file:
            taken = 0

            def take(piece: bytes) -> int:
                """Writes a piece of the pack."""
                nonlocal taken
                before, taken = taken, taken + len(piece)
                if before // _TELL_BYTES != taken // _TELL_BYTES:
                    _tell("receiving", taken, None)
                try:
                    return file.write(piece)
                except OSError as error:
                    raise _DiskError(error.strerror) from error

            def exchange(client: GitClient, path: bytes) -> FetchPackResult:
                """With one client, for one contact."""
                return client.fetch_pack(
                    path,
                    self._wanted,
                    _Haves(self._request),  # type: ignore[arg-type]  # as much of a walker as is used
                    take,
                    progress=lambda words: said.append(words.decode("utf-8", "replace")),
                    ref_prefix=_PREFIXES,
                )

            result = speak(self._remote, watch, exchange, said=said)
        self._shallow |= {each.decode() for each in result.new_shallow or ()}
        inspection = Inspection(
            os.fsencode(self._request.file_name),
            max_state=MAX_STATE,
            allow_nan=self._request.allow_nan,
        )
        if taken:
            index_pack(self._pack, _LIMITS, self._visiting(inspection))
        history = inspection.judge(self._refs, self._shallow, self._has, self._read)
        return {"history": history.to_json(), "pack": self._pack.name if taken else None}

    def _wanted(self, refs: Mapping[Any, Any], depth: int | None = None) -> list[Any]:
        """What of the remote's refs is to be fetched."""
        del depth  # all of it
        self._watch.answered(_PACK)
        _tell("receiving", 0, None)
        for ref, at in refs.items():
            name = ref.decode("utf-8", "surrogateescape")
            if at == b"shallow":
                self._shallow.add(name)
            if (
                name in _KEPT
                or name.startswith(BACKUPS)
                or (name == ARCHIVE and self._request.archive)
            ):
                self._refs[name] = at.decode("ascii", "replace")
        return [at.encode() for at in dict.fromkeys(self._refs.values()) if not self._has(at)]

    def _visiting(self, inspection: Inspection) -> Callable[[Raw], None]:
        done, told = 0, time.monotonic()

        def visit(raw: Raw) -> None:
            """Looks at an object, and tells how many there were."""
            nonlocal done, told
            done += 1
            inspection.visit(raw)
            if done % _TELL_EVERY == 0 or time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                _tell("checking", done, None)

        return visit


def main() -> None:
    """Fetches what the parent asks for."""
    order = json.loads(sys.stdin.buffer.readline())
    program.in_a_child = True
    # That was for this interpreter to find what its parent finds, and is nothing to what it starts.
    os.environ.pop("PYTHONPATH", None)
    if order["python_path"] is not None:
        os.environ["PYTHONPATH"] = order["python_path"]
    _limit()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    remote, request = Remote(**order["remote"]), Request(**order["request"])
    try:
        answer = _Fetching(remote, request, Path(order["place"])).run()
    except StateError as error:
        answer = {"error": str(error), "code": error.code}
    except (ValueError, MemoryError) as error:
        answer = _invalid(remote, str(error) or "it takes more memory than a history of states can")
    except (OSError, _DiskError) as error:
        answer = {
            "error": f"there is no room for what {remote.name} sends: {error}. Nothing was changed. Check the disk.",
            "code": "remote",
        }
    _say(answer)


def _local(request: Request) -> tuple[Callable[[str], bool], Callable[[str], Raw]]:
    """Whether an object is here, with all that it leads to; and what gives it."""
    if request.state is None:
        return (lambda _: False), _nothing
    store = open_store(Path(request.state))
    repository = store.repository
    refs = store.reader.refs(recover=False)
    head = refs.get(BRANCH)
    named = set(refs.values())
    trails = [refs[name] for name in _TRAILS if name in refs]

    def has(object_id: str) -> bool:
        """A commit that nothing leads to, as an interrupted pull or a prune leaves it, is as good as none."""
        if object_id in named:
            return True
        if not repository.has(object_id):
            return False
        try:
            serial = repository.commit(object_id).note.serial
        except StateReadError:
            return True  # a tree or a blob
        version = store.chain.at(head, serial) if head is not None else None
        if version is not None and version.id == object_id:
            return True
        return any(store.chain.descends(tip, object_id) for tip in trails)

    return has, repository.raw


def _nothing(object_id: str) -> Raw:
    raise AssertionError(object_id)  # only what is here is read, and nothing is


def _limit() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415  not on Windows

        for what, most in (
            (resource.RLIMIT_AS, _MEMORY),
            (resource.RLIMIT_CPU, _CPU_SECONDS),
            (resource.RLIMIT_FSIZE, _PACK),
            (resource.RLIMIT_CORE, 0),
        ):
            hard = resource.getrlimit(what)[1]
            if hard in (resource.RLIM_INFINITY, -1) or hard > most:
                resource.setrlimit(what, (most, most))


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    with contextlib.suppress(OSError, AttributeError):
        os.killpg(0, signal.SIGKILL)  # an ssh that hangs, too
    os._exit(1)


def _invalid(remote: Remote, why: str) -> dict[str, str]:
    return {
        "error": f"what {remote.name} has is no history of this state: {quoted(why)}: {remote.url}. Nothing of it was taken, and"
        " nothing was changed. Look at it there: git log, git fsck.",
        "code": "remote-invalid",
    }


def _tell(phase: str, done: int, total: int | None) -> None:
    _say({"progress": [phase, done, total]})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
