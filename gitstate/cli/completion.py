"""Completion: what a shell is told of how a line may go on, and the scripts by which it asks.

What is offered comes from a state, and so from strangers: a word that holds a control character is not offered, and in
bash, which inserts it as it is, each is quoted, so that `$(...)` in a key stays text.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    shell_complete,
    split_arg_string,
)

from gitstate.cli.escapes import on_a_line

if TYPE_CHECKING:
    from gitstate.cli.session import Session

NAME: Final = "gitstate"
COMPLETE: Final = "_GITSTATE_COMPLETE"
"""Where a shell says that it wants to be told how a line may go on."""

SHELLS: Final = ("bash", "zsh", "fish")

_PLACES: Final = {
    "bash": """\
# Completes gitstate in bash, 4.4 or newer. In ~/.bashrc:
#     eval "$(gitstate completion bash)"
# or, where bash-completion is installed, once:
#     gitstate completion bash > ~/.local/share/bash-completion/completions/gitstate
""",
    "zsh": """\
# Completes gitstate in zsh. In ~/.zshrc, after compinit:
#     eval "$(gitstate completion zsh)"
# or once, into a folder of $fpath:
#     gitstate completion zsh > ~/.zfunc/_gitstate
""",
    "fish": """\
# Completes gitstate in fish. Once:
#     gitstate completion fish > ~/.config/fish/completions/gitstate.fish
""",
}
_BASH: Final = """\
%(complete_func)s() {
    local response line IFS=$'\\n'
    response=$(
        env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" COMP_LINE="${COMP_LINE:0:COMP_POINT}" \\
            COMP_CURRENT="$2" %(complete_var)s=bash_complete "$1" 2>/dev/null
    )
    COMPREPLY=()
    while read -r line; do
        case $line in
            plain,*) COMPREPLY+=("${line#*,}") ;;
            dir,*) compopt -o dirnames 2>/dev/null ;;
            file,*) compopt -o default 2>/dev/null ;;
        esac
    done <<< "$response"
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""
_SPECIAL: Final = re.compile(r"[^\w@%+=:,./~^-]|^~")
_IN_DOUBLE_QUOTES: Final = re.compile(r'["$`\\]')
_END: Final = "\1"
_LONGEST_HELP: Final = 60


def complete(command: click.Command, session: Session, instruction: str) -> int:
    """Tells a shell how the line in its variables may go on. Whatever goes wrong, nothing is said of it."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        try:
            status = shell_complete(command, {"obj": session}, NAME, COMPLETE, instruction)
            sys.stdout.flush()
        except Exception:  # noqa: BLE001  somebody is typing
            return 1
        return status


def script(shell: str) -> str:
    """The script by which that shell completes the command; its first lines say where it belongs."""
    source = _CLASSES[shell](click.Command(NAME), {}, NAME, COMPLETE).source().strip() + "\n"
    if shell == "zsh":  # which looks for its word in the first line
        first, _, rest = source.partition("\n")
        return f"{first}\n{_PLACES[shell]}\n{rest}"
    return f"{_PLACES[shell]}\n{source}"


class _Safe(ShellComplete):
    """Offers nothing that could take hold of the terminal."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Those that can be printed, each with the first line of what it is."""
        return [
            CompletionItem(item.value, item.type, _brief(item.help))
            for item in super().get_completions(args, incomplete)
            if item.value.isprintable()
        ]


class _Bash(_Safe, BashComplete):
    """As click's, for words that are quoted, or that bash takes for several: `/a:b`, `--at=HEAD`."""

    source_template = _BASH

    def source(self) -> str:
        """The script; whether there is a bash here, and which, does not matter."""
        return ShellComplete.source(self)

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words of the line up to the cursor, as bash would hand them over, and the beginning of the last one."""
        line = os.environ.get("COMP_LINE")
        if not line:
            return super().get_completion_args()
        *words, last = split_arg_string(line + _END)
        self._typed = last.removesuffix(_END)
        return words[1:], self._typed

    def format_completion(self, item: CompletionItem) -> str:
        """What takes the place of the part of a word that bash has at the cursor."""
        current = os.environ.get("COMP_CURRENT", "")
        line = os.environ.get("COMP_LINE", "")
        if not line or item.type != "plain":
            return super().format_completion(item)
        quote = line[: len(line) - len(current)][-1:]
        known = "".join(split_arg_string((quote if quote in "'\"" else "") + current))
        before = self._typed.removesuffix(known)
        return f"plain,{_quoted(item.value.removeprefix(before), quote)}"


class _Whole(_Safe):
    """For shells that put what is offered in the place of all of `--at=HE`."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Those of the value, behind the option."""
        option, equals, _ = incomplete.partition("=")
        found = super().get_completions(args, incomplete)
        if not (equals and option.startswith("--")):
            return found
        return [CompletionItem(f"{option}={item.value}", item.type, item.help) for item in found]


class _Zsh(_Whole, ZshComplete):
    """As click's, which has zsh quote what it inserts."""

    source_template = ZshComplete.source_template.replace(
        " %(prog_name)s)", " %(prog_name)s 2>/dev/null)"
    )


class _Fish(_Whole, FishComplete):
    """As click's, which has fish quote what it inserts; a word may hold a comma."""

    source_template = FishComplete.source_template.replace(
        " %(prog_name)s)", " %(prog_name)s 2>/dev/null)"
    ).replace('string split ","', 'string split -m 1 ","')


_CLASSES: Final[dict[str, type[ShellComplete]]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}
for _each in _CLASSES.values():
    add_completion_class(_each)


def _brief(what: str | None) -> str | None:
    return on_a_line(what.partition("\n")[0])[:_LONGEST_HELP] if what else None


def _quoted(word: str, quote: str) -> str:
    """The word as it is to be typed, behind an opening quote where there is one."""
    match quote:
        case "'":
            return word.replace("'", "'\\''")
        case '"':
            # Of a ! a backslash would be left, and without one it stands for a line of the history.
            return _IN_DOUBLE_QUOTES.sub(r"\\\g<0>", word).replace("!", "\"'!'\"")
        case _:
            return _SPECIAL.sub(r"\\\g<0>", word)
