"""Session: one run of the command: what it was told, the state that it is about, and where it writes."""

from __future__ import annotations

import contextlib
import os
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gitstate.cli.arguments.naming import version_of
from gitstate.cli.escapes import typed
from gitstate.cli.options import Options
from gitstate.cli.output import Output, agreed
from gitstate.cli.refusal import CONFLICT, NO_STATE, Refusal, usage
from gitstate.errors import VersionPrunedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gitstate import PipelineState

STATE: Final = "pipeline.json"


class Session:
    """One run of the command.

    Attributes:
        options: what it was told, whichever verb it is of.
    """

    def __init__(self) -> None:
        self.options = Options()

    @cached_property
    def output(self) -> Output:
        """Where it writes."""
        return Output(self.options)

    @cached_property
    def state(self) -> PipelineState:
        """The state that there is.

        Raises:
            Refusal: there is none.
        """
        return self.made(self._found())

    @contextlib.contextmanager
    def changing(self, expect: str | None = None) -> Iterator[PipelineState]:
        """The state, for a block that changes it, which is closed behind it: packed, pruned, and pushed where it is to be.

        With `expect` every change is refused unless the newest version goes by that name.

        Raises:
            Refusal: there is none; or the version that is expected is pruned.
            StateError: there is no such version, or the history is damaged; behind the block, as `PipelineState.close`.
        """
        with _closed(self.expecting(self.state, expect)) as state:
            yield state

    def expecting(self, state: PipelineState, expect: str | None) -> PipelineState:
        """A handle that changes `state` only while its newest version goes by the name `expect`, if there is one.

        Raises:
            Refusal: that version is pruned.
            StateError: there is no such version, or the history is damaged.
        """
        if expect is None:
            return state
        try:
            return state.expecting(version_of(state, expect))
        except VersionPrunedError as error:
            raise Refusal(
                f"version {expect} was expected, and is pruned by now",
                status=CONFLICT,
                code="stale",
                hint="gitstate log -n 3 shows what is there instead",
            ) from error

    def refuse_stale(self, expect: str | None) -> None:
        """What `changing` would refuse, for those that only say what they would do.

        Raises:
            Refusal, StateError: as any change in the block.
        """
        self.expecting(self.state, expect).check_expected()

    def here(self) -> PipelineState:
        """The state that there is; where there is none, the one that would be at `place`."""
        try:
            return self.state
        except Refusal:
            return self.made(self.place())

    def place(self, file: str | None = None) -> Path:
        """Where a new state is to be: `file` if that is given, else what the options of this run say."""
        told = self.options.state if file is None else file
        return Path(STATE) if told is None else place_of(told)

    def made(self, path: Path, **given: Any) -> PipelineState:
        """A handle on the state file at `path`, by the options of this run and what else the constructor is `given`."""
        from gitstate import PipelineState  # noqa: PLC0415  which --help does without

        self.output.hear_warnings()
        try:
            return PipelineState(path, **self.settings(), **given)
        except (TypeError, ValueError) as error:
            raise usage(str(error)) from error

    def settings(self) -> dict[str, Any]:
        """What the options of this run are to the constructor of a handle."""
        given: dict[str, Any] = {}
        if self.options.lock_timeout is not None:
            given["timeout"] = self.options.lock_timeout
        if self.options.schema != "default":
            given["schema"] = self._schema()
        if self.options.allow_nan:
            given["allow_nan"] = True
        return given

    def confirm(self, question: str, *, yes: bool) -> None:
        """Asks before what cannot be undone.

        Raises:
            Refusal: the answer is no, or there is nobody to ask.
        """
        if yes:
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise usage(
                f"{question} There is no terminal to ask on; nothing was changed.",
                hint="--yes answers the question",
            )
        if not agreed(question):
            raise Refusal("nothing was changed", code="declined")

    def _found(self) -> Path:
        if self.options.state is not None:
            path = place_of(self.options.state)
            if not _is_state(path):
                raise _none(f"there is no state at {path}", path)
            return path
        here = Path(os.path.abspath(os.curdir))
        for folder in (here, *here.parents):
            if _is_state(folder / STATE):
                return folder / STATE
        raise _none(f"there is no {STATE} in {here}, nor in a folder above", Path(STATE))

    def _schema(self) -> Any:
        name = self.options.schema
        if name == "none":
            return None
        module, colon, model = name.partition(":")
        if not (colon and module and model):
            raise usage(f"--schema is default, none or MODULE:MODEL, not {name!r}")
        from importlib import import_module  # noqa: PLC0415

        sys.path.insert(0, os.getcwd())  # as `python -m` does
        try:
            return getattr(import_module(module), model)
        except (Exception, SystemExit) as error:  # a stranger's module may raise anything
            raise usage(f"--schema {name}: {type(error).__name__}: {error}") from error
        finally:
            sys.path.pop(0)


@contextlib.contextmanager
def _closed(state: PipelineState) -> Iterator[PipelineState]:
    """A block behind which the state is closed, unless that is ended by Ctrl-C: who is next can pack it, too."""
    with contextlib.ExitStack() as closing:
        closing.enter_context(state)
        try:
            yield state
        except KeyboardInterrupt:
            closing.pop_all()  # it could wait for the lock as long as what was just given up
            raise


def place_of(told: str) -> Path:
    """The state file that is meant by `told`, its own name or that of the folder which it is in, or is to be in.

    What is not there yet is a folder if it has no ending, or a slash behind it.
    """
    path = Path(told)
    is_file = path.suffix or os.path.lexists(path) or _is_state(path)
    return path / STATE if told.endswith(os.sep) or path.is_dir() or not is_file else path


def _is_state(path: Path) -> bool:
    """Whether there is a state file, or the store of one that is gone."""
    if path.is_file() or path.is_symlink():
        return True
    store = path.parent / ".pipeline"
    return (store / "repo" if path.name == STATE else store / f"{path.name}.d" / "repo").is_dir()


def _none(message: str, path: Path) -> Refusal:
    where = "" if path == Path(STATE) else f"-C {typed(os.fspath(path))} "
    return Refusal(
        message, status=NO_STATE, code="no-state", hint=f"gitstate {where}init makes one"
    )
