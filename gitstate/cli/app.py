"""App: the command `gitstate` itself: which verbs there are, where each of them is, and how a run ends.

A verb's module is imported when the verb is used, so that `gitstate --help` starts without the library.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

import click
from click.shell_completion import CompletionItem

from gitstate.cli.completion import COMPLETE, NAME, complete
from gitstate.cli.escapes import printable
from gitstate.cli.options import JSON, common
from gitstate.cli.output import UnwritableError, take_output
from gitstate.cli.refusal import (
    BROKEN_PIPE,
    FAILED,
    INTERRUPTED,
    USAGE,
    Refusal,
    document_of,
    meant,
    status_of,
    usage,
)
from gitstate.cli.session import Session
from gitstate.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Sequence


_LATEST: Final = 10
"""Lines of the history among which those of this run are, beside other writers."""


class _Verb(NamedTuple):
    module: str
    help: str


VERBS: Final = {
    "Begin": {
        "init": _Verb("begin", "Make a state here, or take in a file that is here."),
        "clone": _Verb("remotes", "Make a state of the history at a URL."),
        "import": _Verb("begin", "Take in the backups of another state manager."),
        "demo": _Verb("shell", "Show what gitstate guarantees, and check it."),
    },
    "Look": {
        "status": _Verb("status", "Phases, the newest version, the lock, remotes."),
        "get": _Verb("document", "The state, or the value at a pointer."),
        "log": _Verb("log", "Versions, newest first."),
        "show": _Verb("log", "A version, and what it changed."),
        "diff": _Verb("diff", "What changed between two versions."),
        "blame": _Verb("blame", "Which version last changed each key."),
        "history": _Verb("history", "What was done, failures and pruned versions too."),
        "backups": _Verb("backups", "Versions that can be restored, and their names."),
        "lock": _Verb("status", "Who holds the lock."),
        "watch": _Verb("watch", "Follow new versions as they come."),
    },
    "Change": {
        "set": _Verb("document", "Put a value at a pointer."),
        "unset": _Verb("document", "Take a value away."),
        "edit": _Verb("edit", "Edit the state, or a part, in $EDITOR."),
        "apply": _Verb("edit", "Apply a patch: RFC 6902 or RFC 7396."),
        "run": _Verb("run", "Run a command and record how it went."),
    },
    "Put back": {
        "restore": _Verb("restore", "Make a version, or a part of it, current again."),
        "undo": _Verb("restore", "Take the last change back."),
        "redo": _Verb("restore", "Take the last undo back."),
        "backup": _Verb("backups", "Keep the state as it is, by a name."),
    },
    "Keep whole": {
        "verify": _Verb("upkeep", "Check everything that is on disk."),
        "repair": _Verb("upkeep", "Mend a damaged store from what can be read."),
        "prune": _Verb("upkeep", "Forget versions older than the window."),
        "checkpoint": _Verb("upkeep", "Pack the history, empty the journal."),
        "export": _Verb("export", "Write versions to files, or a Git bundle."),
        "unlock": _Verb("status", "Free a lock whose holder is gone."),
    },
    "Elsewhere": {
        "remote": _Verb("remotes", "List, add and remove remotes."),
        "push": _Verb("remotes", "Send a remote what it lacks."),
        "pull": _Verb("remotes", "Take what a remote has."),
        "reroot": _Verb("remotes", "New hashes, for a server that lacks pruned ones."),
        "hooks": _Verb("hooks", "Install the hooks that are shipped."),
        "completion": _Verb("shell", "The completion script of a shell."),
    },
}


class _Gitstate(click.Group):
    """The command, whose verbs are imported as they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all verbs."""
        return [name for verbs in VERBS.values() for name in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of that name."""
        verb = next((verbs[cmd_name] for verbs in VERBS.values() if cmd_name in verbs), None)
        if verb is None:
            return None
        module = import_module(f"gitstate.cli.verbs.{verb.module}")
        commands = (each for each in vars(module).values() if isinstance(each, click.Command))
        return next(each for each in commands if each.name == cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that the arguments begin with.

        Raises:
            Refusal: there is none; says what may have been meant.
        """
        if args and self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            raise usage(
                f"there is no verb {args[0]!r}",
                hint=meant(args[0], self.list_commands(ctx)) or f"{NAME} --help lists them",
            )
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verbs, and options, that begin so; no verb is imported for it."""
        verbs = {name: verb.help for rows in VERBS.values() for name, verb in rows.items()}
        found = [
            CompletionItem(name, help=what)
            for name, what in verbs.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the verbs, by what they are for."""
        for title, verbs in VERBS.items():
            with formatter.section(title):
                formatter.write_dl([(name, verb.help) for name, verb in verbs.items()])


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from importlib.metadata import version  # noqa: PLC0415  which takes as long as click

        click.echo(f"{NAME} {version(NAME)}")
        context.exit()


APP: Final = _Gitstate(
    NAME,
    params=[
        *common(with_environment=True),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Say which gitstate this is.",
        ),
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    help="The state of a pipeline: one JSON file, every change of which is a Git commit."
    "\n\nVersions go by number (41), hash (3f2a91c), HEAD~2, a backup's name, or @{2h ago};"
    " places by JSON pointers (/phase4/status)."
    "\n\nWhat it ends with: 0 done, 1 failed, 2 usage, 3 differences (--exit-code), 10 no state,"
    " 11 locked, 13 conflict, 14 against the schema, 15 damaged, 16 remote, 130 interrupted,"
    " 141 broken pipe.",
)


def run(arguments: Sequence[str]) -> int:
    """Runs the command with these arguments, and gives the exit status."""
    session = Session()
    if instruction := os.environ.get(COMPLETE):
        return complete(APP, session, instruction)
    take_output()
    try:
        status = _run(session, arguments)
        sys.stdout.flush()  # a short output is written only now
    except BrokenPipeError:
        # Who reads it, `head` say, has seen enough; nothing is left to write to at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except UnwritableError as error:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fails(session, str(error))
    except OSError as error:
        what = error.filename or "the system refused"
        return _fails(session, f"{what}: {error.strerror or error}")
    return status


def _run(session: Session, arguments: Sequence[str]) -> int:
    began = datetime.now(UTC)
    # Not click's own `main`, which takes Ctrl-C and a broken pipe for a failure.
    try:
        with APP.make_context(NAME, [*arguments], obj=session) as context:
            APP.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, click.Abort):
        session.output.note(f"interrupted{_what_stays(session, began)}")
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.ClickException as error:
        _look_for_json(session, arguments)
        return _fails(session, error.format_message(), status=USAGE, hint=_usage(error))
    except Refusal as error:
        if error.status == USAGE:
            _look_for_json(session, arguments)
        session.output.error(document_of(error, error.status))
        return _traced(session, error.status)
    except StateError as error:
        session.output.error(document_of(error, status_of(error)))
        return _traced(session, status_of(error))
    except (OSError, UnwritableError):
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, it is told in one line
        what = f"{type(error).__name__}: {error}. This should not happen; -vv shows where it did"
        return _fails(session, what)
    return 0


def _what_stays(session: Session, began: datetime) -> str:
    """What an interrupted run says of the newest version that it has made; nothing of none, or where that cannot be told."""
    from gitstate.cli.views.entries import called  # noqa: PLC0415  which --help does without

    with contextlib.suppress(Refusal, StateError, OSError, KeyboardInterrupt):
        for line in session.state.get_transaction_history(_LATEST):
            is_ours = line["success"] and line["pid"] == os.getpid()
            if is_ours and datetime.fromisoformat(line["timestamp"]) >= began:
                version = session.state.version(line["commit"])
                return f"; {called(version)} was made, and stays"
    return ""


def _fails(session: Session, message: str, *, status: int = FAILED, hint: str | None = None) -> int:
    code = "usage" if status == USAGE else "failed"
    session.output.error(document_of(Refusal(message, status=status, code=code, hint=hint), status))
    return _traced(session, status)


def _traced(session: Session, status: int) -> int:
    if session.options.verbose > 1:
        sys.stderr.write(printable(traceback.format_exc()))
    return status


def _usage(error: click.ClickException) -> str | None:
    context = getattr(error, "ctx", None)
    return None if context is None else f"{context.command_path} --help"


def _look_for_json(session: Session, arguments: Sequence[str]) -> None:
    """An error in what is read before `--json` is to be a document, too."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    session.options.json |= "--json" in [*arguments][:end]
    with contextlib.suppress(click.BadParameter):
        session.options.json |= click.BOOL(os.environ.get(JSON) or False)
