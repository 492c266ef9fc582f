"""Shell: demo, completion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gitstate.cli import completion as completions
from gitstate.cli import options
from gitstate.cli.refusal import FAILED, usage

if TYPE_CHECKING:
    from gitstate.cli.session import Session


@options.verb("demo")
@click.option("--keep", is_flag=True, help="Keep the temporary folder that it works in.")
@click.pass_obj
@click.pass_context
def demo(context: click.Context, session: Session, /, keep: bool) -> None:
    r"""Show what gitstate guarantees, and check it: 0 if all of it holds, else 1.

    It works in a temporary folder, with real processes. With -C on a copy of that state file, which is left as it is.

    \b
    gitstate demo -C pipeline.json
    """
    from gitstate.demo.frame import SourceError, play  # noqa: PLC0415  completion does without it
    from gitstate.demo.report import Report  # noqa: PLC0415

    output = session.output
    report = Report(_unsaid if output.json else output.print)
    source = None if session.options.state is None else session.place()
    try:
        folder = play(report, source, keep=keep)
    except SourceError as error:
        raise usage(str(error)) from error
    if output.json:
        output.document(
            {
                "ok": not report.failures,
                "kept": str(folder) if keep else None,
                "sections": [
                    {
                        "title": section.title,
                        "checks": [
                            {"guarantee": guarantee, "holds": holds}
                            for guarantee, holds in section.checks
                        ],
                    }
                    for section in report.sections
                ],
            }
        )
    context.exit(FAILED if report.failures else 0)


@options.verb("completion")
@click.argument("shell", type=click.Choice(completions.SHELLS))
@click.pass_obj
def completion(session: Session, /, shell: str) -> None:
    """Write the script by which SHELL completes gitstate: verbs, options, pointers, versions, remotes.

    Its first lines say where it belongs.
    """
    script = completions.script(shell)
    if session.output.json:
        session.output.document({"shell": shell, "script": script})
    else:
        click.echo(script, nl=False)


def _unsaid(_: str) -> None:
    """What is for people, where the output is for programs."""
