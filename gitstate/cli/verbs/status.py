"""The state as it stands: status, lock, unlock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gitstate.cli import options
from gitstate.cli.answers.standing import Standing
from gitstate.cli.refusal import LOCKED
from gitstate.cli.views import documents

if TYPE_CHECKING:
    from gitstate.cli.session import Session


@options.verb("status")
@click.pass_obj
def status(session: Session, /) -> None:
    """Show how the state stands: its phases, runs, versions, lock and remotes.

    The file is compared with the newest version; what is told of a remote is from the last contact
    with it. Where the state is damaged or gone it shows the rest, and ends with 15.
    """
    output = session.output
    standing = Standing(session.state)
    if output.json:
        output.document(standing.as_json())
    else:
        from gitstate.cli.views.overview import overview  # noqa: PLC0415  JSON output does without rich

        output.print(*overview(standing, output))
    if standing.troubles:
        first, *others = standing.troubles
        for each in {str(error) for error in others} - {str(first)}:
            output.warn(each)
        raise first


@options.verb("lock")
@click.pass_context
def lock(context: click.Context, /) -> None:
    """Say who holds the lock, and for how long. Waits for nobody.

    It ends with 0 where the lock is free, and with 11 where somebody holds it:

    \b
        until gitstate lock >/dev/null; do sleep 1; done
    """  # noqa: D301  click's own mark for lines that stay as they are
    session: Session = context.obj
    output = session.output
    holder = session.state.lock_holder()
    if output.json:
        output.document({"lock": documents.of_holder(holder)})
    else:
        from gitstate.cli.views.overview import holder_text  # noqa: PLC0415  as above

        output.print(holder_text(holder, exactly=output.exactly))
    context.exit(LOCKED if holder is not None else 0)


@options.verb("unlock")
@options.dry_run
@options.yes
@click.pass_obj
def unlock(session: Session, /, dry_run: bool, yes: bool) -> None:
    """Free a lock whose holder is gone.

    A lock ends with its process. Only where a program that it had started has the lock file open
    still, somebody has to free it. While the holder lives, that is refused (11).
    """
    state, output = session.state, session.output
    holder = state.unlock(dry_run=True)
    if holder is not None and not dry_run:
        session.confirm(f"Take the lock from {holder}, which is gone?", yes=yes)
        holder = state.unlock(holder)
    if output.json:
        output.document({"dry_run": dry_run, "unlocked": documents.of_holder(holder)})
    elif holder is None:
        output.note("the lock is free: there is nothing to do")
    else:
        output.note(f"{'would take' if dry_run else 'took'} the lock from {holder}")
