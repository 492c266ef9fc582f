"""Session: one run of the command: what it was told, the state that it is about, and where it writes."""

from __future__ import annotations

import contextlib
import os
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gitstate.cli.naming import version_of
from gitstate.cli.options import Options
from gitstate.cli.output import Output
from gitstate.cli.refusal import CONFLICT, NO_STATE, USAGE, Refusal

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
            Refusal: there is none.
        """
        state = self.state
        if expect is not None:
            state = state.expecting(version_of(self.state, expect))
        with _closed(state) as open_state:
            yield open_state

    def refuse_stale(self, expect: str | None) -> None:
        """What `changing` would refuse, for those that only say what they would do.

        Raises:
            Refusal: the newest version does not go by the name `expect`.
        """
        if expect is None:
            return
        expected, newest = version_of(self.state, expect), version_of(self.state, "HEAD")
        if expected.id != newest.id:
            raise Refusal(
                f"version {expected.serial} ({expected.short_id}) was expected, and the newest is {newest.serial}"
                f" ({newest.short_id})",
                status=CONFLICT,
                code="stale",
                hint="gitstate log -n 3 shows what came between",
            )

    def here(self) -> PipelineState:
        """The state that there is; where there is none, the one that would be at `place`."""
        try:
            return self.state
        except Refusal:
            return self.made(self.place())

    def place(self) -> Path:
        """Where a new state is to be."""
        told = self.options.state
        return Path(STATE) if told is None else _file(told)

    def made(self, path: Path, **given: Any) -> PipelineState:
        """A handle on the state file at `path`, by the options of this run and what else the constructor is `given`."""
        from gitstate import PipelineState  # noqa: PLC0415  which --help does without

        self.output.hear_warnings()
        try:
            return PipelineState(path, **self.settings(), **given)
        except (TypeError, ValueError) as error:
            raise Refusal(str(error), status=USAGE, code="usage") from error

    def settings(self) -> dict[str, Any]:
        """What the options of this run are to the constructor of a handle."""
        given: dict[str, Any] = {}
        if self.options.lock_timeout is not None:
            given["timeout"] = self.options.lock_timeout
        if self.options.schema != "default":
            given["schema"] = self._schema()
        return given

    def confirm(self, question: str, *, yes: bool) -> None:
        """Asks before what cannot be undone.

        Raises:
            Refusal: the answer is no, or there is nobody to ask.
        """
        import click  # noqa: PLC0415  what is never asked needs no prompt

        if yes:
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Refusal(
                f"{question} There is no terminal to ask on; nothing was changed.",
                status=USAGE,
                code="usage",
                hint="--yes answers the question",
            )
        if not click.confirm(question, err=True):
            raise Refusal("nothing was changed", code="declined")

    def _found(self) -> Path:
        if self.options.state is not None:
            path = _file(self.options.state)
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
            raise Refusal(
                f"--schema is default, none or MODULE:MODEL, not {name!r}",
                status=USAGE,
                code="usage",
            )
        from importlib import import_module  # noqa: PLC0415

        sys.path.insert(0, os.getcwd())  # as `python -m` does
        try:
            return getattr(import_module(module), model)
        except Exception as error:  # a stranger's module may raise anything
            raise Refusal(
                f"--schema {name}: {type(error).__name__}: {error}", status=USAGE, code="usage"
            ) from error
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


def _file(told: str) -> Path:
    path = Path(told)
    return path / STATE if path.is_dir() else path


def _is_state(path: Path) -> bool:
    """Whether there is a state file, or the store of one that is gone."""
    if path.is_file() or path.is_symlink():
        return True
    store = path.parent / ".pipeline"
    return (store / "repo" if path.name == STATE else store / f"{path.name}.d" / "repo").is_dir()


def _none(message: str, path: Path) -> Refusal:
    where = "" if path == Path(STATE) else f"-C {path} "
    return Refusal(
        message, status=NO_STATE, code="no-state", hint=f"gitstate {where}init makes one"
    )
