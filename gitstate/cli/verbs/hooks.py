"""Hooks: the programs that are shipped, and where each of them belongs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gitstate import hooks
from gitstate.cli import options
from gitstate.cli.escapes import on_a_line, typed
from gitstate.cli.output import table
from gitstate.cli.refusal import NO_STATE, Refusal, usage

if TYPE_CHECKING:
    from gitstate.cli.session import Session

_HOOKS: Final = {
    "post-commit": "tells a webhook what was committed, or pushes it",
    "pre-commit": "lets no broken state file into a project's commit",
    "pre-receive": "lets no broken history into a server's repository",
}
"""What each of the hooks that are shipped is for."""

_NEXT: Final = {
    "post-commit": "set GITSTATE_WEBHOOK=https://... or GITSTATE_PUSH=origin where the pipeline runs; or write the"
    " webhook's address into post-commit.url beside the hook",
    "pre-commit": "git config gitstate.file names a state file that is not called pipeline.json, gitstate.schema"
    " MODULE:MODEL or none another schema",
    "pre-receive": "in that repository, git config gitstate.schema MODULE:MODEL checks the newest version, too, and"
    " gitstate.maxSize bounds it",
}
_STYLES: Final = {"installed": "green", "another": "red", "missing": "dim"}


@options.verb("list")
@click.pass_obj
def list_hooks(session: Session, /) -> None:
    """List the hooks that are shipped, and whether each is where it belongs."""
    _list(session)


@options.verb("install")
@click.argument("name", type=click.Choice(hooks.SHIPPED))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), required=False)
@options.dry_run
@click.pass_obj
def install(session: Session, /, name: str, folder: Path | None, dry_run: bool) -> None:
    r"""Install the hook NAME in FOLDER. Another one that is there is not overwritten.

    Without FOLDER, post-commit goes to the state's own store, and pre-commit to the Git project around it. A
    pre-receive hook is for a server, whose folder has to be named.

    \b
    gitstate hooks install pre-receive /srv/git/state.git/hooks
    """
    where = _where(session, name) if folder is None else _given(folder)
    output, hook = session.output, hooks.install(name, where, dry_run=dry_run)
    if output.json:
        output.document({"dry_run": dry_run, "hook": name, "path": str(hook)})
    elif dry_run:
        installed = hooks.standing(name, where) == "installed"
        done = "is installed already" if installed else "would be installed"
        output.print(f"{name} {done}: {hook}")
    else:
        output.note(f"{name} is installed: {hook}")
        output.note(f"next: {_NEXT[name]}")


@options.verbs("hooks", commands=[list_hooks, install])
@click.pass_context
def hook_verbs(context: click.Context) -> None:
    """List the hooks that are shipped, and whether each is where it belongs; or install one."""
    if context.invoked_subcommand is None:
        _list(context.obj)


def _list(session: Session) -> None:
    rows: list[tuple[str, str | None, str | None, str]] = []
    for name, what in _HOOKS.items():
        try:
            there = _where(session, name)
        except Refusal:
            rows.append((name, None, None, what))
        else:
            rows.append((name, hooks.standing(name, there), os.path.abspath(there), what))
    if session.output.json:
        keys = ("hook", "standing", "folder", "what")
        session.output.document({"hooks": [dict(zip(keys, row, strict=True)) for row in rows]})
        return
    from rich.text import Text  # noqa: PLC0415  JSON output does without it

    made = table("hook", "standing", "what it does")
    for name, standing, folder, what in rows:
        made.add_row(name, Text(standing or "-", style=_STYLES.get(standing or "", "")), what)
        if session.output.exactly and folder is not None:
            made.add_row("", "", Text(on_a_line(folder), style="dim"))
    session.output.print(made)


def _where(session: Session, name: str) -> Path:
    """The folder where a hook belongs.

    Raises:
        Refusal: nobody but the user knows.
    """
    if name == "post-commit":
        store = session.state.git_dir.parent
        if not store.is_dir():
            raise Refusal(
                f"there is no store yet at {store}",
                status=NO_STATE,
                code="no-history",
                hint="gitstate init",
            )
        return store / "hooks"
    if name == "pre-commit":
        return _of_project(session.place().parent)
    raise usage(
        "which bare repository, on the server, is pre-receive for?",
        hint="gitstate hooks install pre-receive /srv/git/state.git/hooks",
    )


def _of_project(folder: Path) -> Path:
    git = shutil.which("git")
    if git is None:
        raise _no_project("git is not installed, which knows where a project has its hooks")
    done = subprocess.run(  # noqa: S603  the user's own git
        [git, "rev-parse", "--git-path", "hooks"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise _no_project(f"there is no Git project around {os.path.abspath(folder)}")
    return folder / os.fsdecode(done.stdout.removesuffix(b"\n"))


def _no_project(why: str) -> Refusal:
    return Refusal(why, hint="gitstate hooks install pre-commit FOLDER, such as .git/hooks")


def _given(folder: Path) -> Path:
    if (folder / "HEAD").is_file():
        raise usage(
            f"{folder} is a repository, which looks for hooks in a folder of it",
            hint=f"did you mean {typed(os.fspath(folder / 'hooks'))}?",
        )
    return folder
