"""Export: versions as files, for whoever has no gitstate."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from gitstate.cli import options
from gitstate.cli.arguments.naming import VersionName, version_of
from gitstate.cli.output import counted
from gitstate.cli.progress import progress_bar
from gitstate.cli.refusal import Refusal, usage
from gitstate.errors import StateError

if TYPE_CHECKING:
    from gitstate import PipelineState
    from gitstate.cli.session import Session


@options.verb("export")
@click.argument("target", metavar="[VERSION] TARGET", nargs=-1, required=True, type=VersionName())
@click.option("--bundle", is_flag=True, help="A Git bundle, which git clone can read.")
@click.option("-f", "--force", is_flag=True, help="Replace files that are there.")
@click.pass_obj
def export(session: Session, /, target: tuple[str, ...], bundle: bool, force: bool) -> None:
    """Write VERSION to the file TARGET; without a version all of them, to files in the folder TARGET.

    With --bundle it is one file: of all history, for git clone --mirror, or of that version.

    \b
        gitstate export HEAD state.json
        gitstate export all-versions
        gitstate export --bundle history.bundle
    """  # noqa: D301  click's own mark for lines that stay as they are
    *names, place = target
    if len(names) > 1:
        raise usage("one VERSION, and one TARGET")
    state, folder = session.state, not (bundle or names)
    version = version_of(session.state, names[0]) if names else None
    if version is None:
        _refuse_version(session, place)
    _refuse_target(place, folder=folder, force=force)
    if folder and not force and (there := _files(state, Path(place))):
        what = f"{place} holds {counted(len(there), 'version')} of this state already"
        raise Refusal(what, code="exists", hint="--force replaces what is there")
    try:
        with progress_bar(session) as progress:
            write = state.export_bundle if bundle else state.export
            written = write(place, version, progress=progress)
    except ValueError as error:
        raise usage(str(error)) from error
    files = _files(state, written) if folder else [written]
    if session.output.json:
        session.output.document({"files": [str(file) for file in files]})
    else:
        session.output.print(
            *(os.path.join(place, file.name) if folder else place for file in files)
        )


def _refuse_version(session: Session, target: str) -> None:
    """Sees that a version alone is not taken for a target.

    Raises:
        Refusal: it would be.
    """
    with contextlib.suppress(Refusal, StateError):
        version = version_of(session.state, target)
        raise click.UsageError(
            f"{target} is version {version.serial}, and there is no TARGET; or is it ./{target}?"
        )


def _refuse_target(target: str, *, folder: bool, force: bool) -> None:
    """Sees that nothing is replaced, and that no folder is made where a file was meant.

    Raises:
        Refusal: it would be.
    """
    path, hint = Path(target), "gitstate export --help"
    if target == "-":
        problem = "only to files"
        hint = "gitstate get --at VERSION writes one to the standard output"
    elif folder and (path.is_file() or (target.endswith(".json") and not path.is_dir())):
        problem = f"all versions go into a folder, and {target} is called as a file"
        hint = f"gitstate export HEAD {quote(target)} writes the newest one alone"
    elif not folder and path.is_dir():
        problem = f"{target} is a folder"
        hint = "give the name of a file in it"
    elif not folder and not path.parent.is_dir():
        problem = f"there is no folder {path.parent}"
    elif not folder and not force and path.exists():
        raise Refusal(f"{target} is there already", code="exists", hint="--force replaces it")
    else:
        return
    raise usage(problem, hint=hint)


def _files(state: PipelineState, folder: Path) -> list[Path]:
    """The files in it that an export of all versions would write, or has written, which are called by their hashes."""
    versions = (*state.log(), *state.named_backups().values())
    ends = tuple({f"_{version.short_id}{state.path.suffix}" for version in versions})
    there = folder.iterdir() if folder.is_dir() else ()
    return sorted(file for file in there if file.name.endswith(ends))
