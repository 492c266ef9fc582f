"""The command line and the shell: the demo, and how a line may go on."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import CompletionItem
from command import environment, refused, run

from gitstate import PipelineState
from gitstate.cli.completion import complete
from gitstate.cli.session import Session

ODD = {
    "a b": {"c d": 1},
    "q:r": {"s:t": 1, "s:u": 2},
    "$(touch owned)": 1,
    "it's": {},
    "*": {},
    "no!hash,or": {"x": 1},
    "\x1b[2J": 1,
}
BASH_COMPLETES = """
source ./script
ask() {
    COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=($1) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _gitstate_completion gitstate "$2" ""
    printf '%s\\n' "${COMPREPLY[@]}"
    printf 'end\\n'
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a state of odd keys, a remote and a named version; a second state; a `gitstate` in `bin`."""
    place = tmp_path_factory.mktemp("shell")
    with PipelineState(place / "pipeline.json", schema=None) as state:
        state.write(ODD, message="begins")
        state.create_backup("before-speech")
        state.remotes.add("origin", place / "backup.git")
    PipelineState(place / "other.json", schema=None).write({"other": {"inside": 1}})
    (place / "damaged.json").write_text("{")
    (place / "bin").mkdir()
    command = place / "bin" / "gitstate"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gitstate "$@"\n')
    command.chmod(0o755)
    return place


def in_shell(folder: Path, *command: str) -> str:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(PATH=path, HOME=str(folder)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_is_told_how_a_line_may_go_on_and_each_word_is_quoted_as_it_is_typed(folder):
    (folder / "script").write_text(run("completion", "bash", cwd=folder).out)
    expected = {
        # The line up to the cursor, and what bash takes for the word at it.
        ("gitstate stat", "stat"): ["status"],
        ("gitstate get --js", "--js"): ["--json"],
        ("gitstate get /", "/"): [
            r"/a\ b",
            "/q:r",
            r"/\$\(touch\ owned\)",
            r"/it\'s",
            r"/\*",
            r"/no\!hash,or",
        ],
        ("gitstate get '/$", "/$"): ["/$(touch owned)"],
        ('gitstate get "/it', "/it"): ["/it's"],
        ('gitstate get "/n', "/n"): ["/no\"'!'\"hash,or"],
        ('gitstate get "/no"\'!\'"hash,or/', "hash,or/"): ["hash,or/x"],
        (r"gitstate get /a\ b/", r"/a\ b/"): [r"/a\ b/c\ d"],
        ("gitstate get /q:r/s:", ""): ["t", "u"],
        ("gitstate get --at=bef", "bef"): ["before-speech"],
        ("gitstate push o", "o"): ["origin"],
        ("gitstate -C other.json get /other/", "/other/"): ["/other/inside"],
        ("gitstate get -C damaged.json /", "/"): [""],
        ("gitstate -C nowhere.json get --at ", ""): [""],
    }
    asked = "".join(f"ask {shlex.quote(line)} {shlex.quote(at)}\n" for line, at in expected)

    answers = in_shell(folder, "bash", "--norc", "-c", BASH_COMPLETES + asked).split("end\n")

    found = [answer.removesuffix("\n").split("\n") for answer in answers[:-1]]
    assert dict(zip(expected, found, strict=True)) == expected
    assert not (folder / "owned").exists()


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_is_told_too(folder):
    script = run("completion", "fish", "--json", cwd=folder).document
    assert script["shell"] == "fish"
    (folder / "script.fish").write_text(script["script"])

    ask = "source script.fish; complete -C 'gitstate get --at=b'; complete -C 'gitstate push '"
    ask += "; complete -C 'gitstate get /n'"
    assert in_shell(folder, "fish", "--no-config", "-c", ask).splitlines() == [
        "--at=before-speech\ta backup",
        f"origin\t{folder / 'backup.git'}",
        "/no!hash,or",
    ]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_the_script_as_a_file_of_its_own_functions(folder):
    (folder / "_gitstate").write_text(run("completion", "zsh", cwd=folder).out)

    ask = "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; print $_comps[gitstate]"
    assert in_shell(folder, "zsh", "-f", "-c", ask) == "_gitstate\n"


class Loud(click.ParamType):
    """Says more than it should, or fails."""

    name = "loud"

    def shell_complete(self, ctx, param, incomplete):
        print("noise", file=sys.stderr)
        if incomplete:
            raise RuntimeError
        return [CompletionItem("word", help="\x1b[2Jone\ntwo"), CompletionItem("an\x1b[2Jother")]


def test_what_is_offered_can_be_printed_and_nothing_else_is_said(monkeypatch, capfd):
    command = click.Command("gitstate", params=[click.Argument(["loud"], type=Loud())])

    def completes(words: str) -> int:
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", "1")
        return complete(command, Session(), "zsh_complete")

    assert completes("gitstate ") == 0
    assert capfd.readouterr() == ("plain\nword\n\\x1b[2Jone\n", "")
    assert completes("gitstate x") == 1
    assert capfd.readouterr() == ("", "")


def test_a_shell_that_nobody_knows_is_bad_usage(folder):
    assert "'bash', 'zsh', 'fish'" in refused(2, "completion", "csh", cwd=folder)


def test_the_demo_is_a_verb_and_works_on_a_copy_of_the_state_that_is_named(folder):
    temporary = folder / "temporary"
    temporary.mkdir()
    before = (folder / "other.json").read_bytes()

    done = run("demo", "--json", "-C", "other.json", cwd=folder, env={"TMPDIR": str(temporary)})

    assert done.document["ok"] is True
    assert done.document["kept"] is None
    last = done.document["sections"][-1]
    assert last["title"] == "The file that was copied"
    assert last["checks"] == [{"guarantee": "it is as it was", "holds": True}]
    assert list(temporary.iterdir()) == []
    assert (folder / "other.json").read_bytes() == before
    assert "cannot use damaged.json" in refused(2, "demo", "-C", "damaged.json", cwd=folder)
