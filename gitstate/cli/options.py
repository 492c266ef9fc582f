"""Options: what every verb takes, before its name or behind it, and what those have in common that change something."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

JSON: Final = "GITSTATE_JSON"
"""What says in the environment that the output is for programs."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass
class Options:
    """What this run was told, whichever verb it is of.

    Attributes:
        state: the state file, or the folder that it is in; None to look for it.
        json: whether the output is for programs.
        color: `"auto"`, `"always"` or `"never"`.
        no_pager: whether long output goes straight to the terminal.
        quiet: whether only data and errors are written.
        verbose: how much is told; 2 for where an error comes from.
        lock_timeout: seconds to wait for the lock, None for as long as the library does.
        schema: `"default"`, `"none"`, or `module:Model`.
        allow_nan: whether NaN and infinities pass.
    """

    state: str | None = None
    json: bool = False
    color: str = "auto"
    no_pager: bool = False
    quiet: bool = False
    verbose: int = 0
    lock_timeout: float | None = None
    schema: str = "default"
    allow_nan: bool = False


class Bound(NamedTuple):
    """At most so many; None for all."""

    number: int | None


class Count(click.ParamType[Bound]):
    """How many, `least` or more, or `all`."""

    name = "N|all"

    def __init__(self, least: int = 0) -> None:
        self._least = least

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Bound:
        """What was typed; None is left to what was not."""
        text = str(value)
        if text == "all":
            return Bound(None)
        if not (text.isdecimal() and len(text) < 10 and int(text) >= self._least):
            self.fail(f"{text!r} is neither a number, {self._least} or more, nor all", param, ctx)
        return Bound(int(text))


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Notes what was given; what was not leaves what the other place may have said."""
    given = value is not None and value is not False
    session = context.obj
    if given and session is not None and parameter.name is not None:
        if parameter.name == "verbose":
            value += session.options.verbose
        setattr(session.options, parameter.name, value)


_COMMON: Final[tuple[dict[str, Any], ...]] = (
    {
        "names": ("-C", "--state"),
        "metavar": "FILE",
        "envvar": "GITSTATE_STATE",
        "type": click.Path(),
        "help": "The state file, or its folder. Else pipeline.json here or in a parent.",
    },
    {
        "names": ("--json",),
        "is_flag": True,
        "envvar": JSON,
        "help": "One JSON document, or lines.",
    },
    {
        "names": ("--color",),
        "type": click.Choice(["auto", "always", "never"]),
        "envvar": "GITSTATE_COLOR",
        "help": "Colours; auto: on a terminal, without NO_COLOR.",
    },
    {
        "names": ("--no-pager",),
        "is_flag": True,
        "envvar": "GITSTATE_NO_PAGER",
        "help": "No pager on a terminal.",
    },
    {
        "names": ("-q", "--quiet"),
        "is_flag": True,
        "envvar": "GITSTATE_QUIET",
        "help": "Data, warnings and errors alone.",
    },
    {
        "names": ("-v", "--verbose"),
        "count": True,
        "envvar": None,
        "help": "Exact times, whole values; -vv: tracebacks.",
    },
    {
        "names": ("--lock-timeout",),
        "metavar": "SECONDS",
        "type": click.FloatRange(min=0),
        "envvar": "GITSTATE_LOCK_TIMEOUT",
        "help": "How long to wait for the lock; 10 unless given.",
    },
    {
        "names": ("--schema",),
        "metavar": "default|none|MODULE:MODEL",
        "envvar": "GITSTATE_SCHEMA",
        "help": "What every change has to fit; none: anything.",
    },
    {
        "names": ("--allow-nan",),
        "is_flag": True,
        "envvar": "GITSTATE_ALLOW_NAN",
        "help": "Let NaN and infinities pass, which JSON lacks.",
    },
)


def common(*, with_environment: bool) -> list[click.Parameter]:
    """The options of every verb; of the command itself they may be in the environment, too."""
    made: list[click.Parameter] = []
    for each in _COMMON:
        settings = {**each, "expose_value": False, "callback": _keep}
        names = settings.pop("names")
        if not with_environment:
            settings.pop("envvar")
        made.append(click.Option(names, **settings))
    return made


class Verb(click.Command):
    """A verb: a command that takes the common options as well, listed behind its own."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._common = common(with_environment=False)
        self.params.extend(self._common)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the verb's own options, then the common ones."""
        for title, wanted in (("Options", False), ("Common options", True)):
            rows = [
                row
                for parameter in self.get_params(ctx)
                if isinstance(parameter, click.Option)
                and (parameter in self._common) is wanted
                and (row := parameter.get_help_record(ctx))
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Verbs(Verb, click.Group):
    """A verb that has verbs of its own, and does something without one, too."""

    command_class = Verb

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, invoke_without_command=True, **settings)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the verbs, then the options."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)


verb = functools.partial(click.command, cls=Verb)
"""Decorates the function of a verb: `@verb("get")`. Its first argument is the session."""

verbs = functools.partial(click.command, cls=Verbs)
"""The same of one that has verbs of its own, `commands`; its function is called before theirs."""


def _option(
    *names: str, **settings: Any
) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    return click.option(*names, **settings)


message = _option("-m", "--message", metavar="TEXT", help="The message of the new version.")
expect = _option(
    "--expect", metavar="VERSION", help="Refuse (13) unless that is the newest version."
)
dry_run = _option("--dry-run", is_flag=True, help="Say what would be done, change nothing.")
yes = _option("-y", "--yes", is_flag=True, help="Ask nothing.")
