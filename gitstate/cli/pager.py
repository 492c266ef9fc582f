"""Pager: long output on a terminal, a page at a time, by the program that the user has for that."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from gitstate.cli.refusal import usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def page(parts: Iterable[str], *, color: bool) -> None:
    """Shows the parts, each as soon as it is there; short output stays on the screen.

    Raises:
        Refusal: the command that was chosen is not quoted as a shell wants it.
    """
    import click  # noqa: PLC0415  for a terminal alone

    if chosen := _chosen():
        os.environ["PAGER"] = chosen
    os.environ.setdefault("LESS", "FRX")  # as git: short output stays on the screen
    click.echo_via_pager(_unended(parts), color=color)


def _chosen() -> str:
    """The command that was chosen; an empty one for none.

    Raises:
        Refusal: it is not quoted as a shell wants it.
    """
    chosen = os.environ.get("GITSTATE_PAGER") or os.environ.get("PAGER", "")
    try:
        shlex.split(chosen)
    except ValueError as error:
        raise usage(
            f"the pager {chosen!r} cannot be understood: {error}",
            hint="GITSTATE_PAGER, PAGER name it, with its options: PAGER='less -S'; --no-pager needs none",
        ) from error
    return chosen


def _unended(parts: Iterable[str]) -> Iterator[str]:
    """The parts without the end of the last line, as click adds one."""
    last = ""
    for part in filter(None, parts):
        yield last
        last = part
    yield last.removesuffix("\n")
