"""The command in a terminal of 80 columns and 24 lines: what stands on it, and what Ctrl-C does."""

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import COMMAND, environment, is_open, read_until
from terminal import Terminal, needs_tmux, terminal

from gitstate import PipelineState

pytestmark = needs_tmux


@pytest.fixture
def state(tmp_path: Path) -> PipelineState:
    """A state with more in it than a screen has lines, and more versions."""
    state = PipelineState(tmp_path / "pipeline.json")
    long = {f"chunk_{number:04}": {"status": "success"} for number in range(300)}
    state.write({"phase1": {"status": "success", "files": long}, "phase2": {"status": "failed"}})
    for number in range(40):
        with state.transaction(message=f"step {number} " + "and so on " * 12) as txn:
            txn.data["phase2"]["metrics"] = {"step": number}
    return state


@pytest.fixture
def shell(state: PipelineState) -> Iterator[Terminal]:
    """A shell in the folder of the state."""
    with terminal(state.path.parent) as made:
        yield made


def test_what_is_short_stays_on_the_screen_in_colours_and_fits(shell):
    status, screen = shell.run("gitstate status")

    assert status == 0
    assert "phase2  failed" in screen
    assert "\x1b[32m" in shell.screen(colored=True)
    status, screen = shell.run("gitstate log -n 3")
    assert status == 0
    assert [line[:2] for line in screen.splitlines()] == ["41", "40", "39"]
    assert all(len(line) <= 80 and "..." in line for line in screen.splitlines())


def test_what_is_long_is_read_in_a_pager(shell):
    shell.type("clear; PAGER=less gitstate log")
    shell.wait(":")
    assert "41 " in shell.screen()
    shell.press("G")
    shell.wait("1 ")
    shell.press("q")

    assert shell.run("true")[0] == 0


@pytest.mark.parametrize("name", ["GITSTATE_PAGER", "PAGER"])
def test_a_pager_that_is_not_quoted_well_is_wrong_usage(shell, name):
    status, screen = shell.run(f"""{name}="less '" gitstate log""")

    assert status == 2
    assert screen.startswith("""error: the pager "less '" cannot be understood""")


def test_ctrl_c_ends_a_watch_and_says_so(shell, state):
    shell.type("clear; gitstate watch; echo =$?=")
    shell.wait("following")
    with state.transaction(message="seen from beside") as txn:
        txn.data["phase2"]["status"] = "running"
    shell.wait("seen from beside")
    shell.press("C-c")

    screen = shell.wait("=130=")
    assert "Traceback" not in screen
    assert "interrupted" in screen


def test_ctrl_c_while_somebody_has_the_lock_changes_nothing(shell, state):
    before = state.path.read_bytes()
    with state.transaction():
        shell.type("clear; gitstate --lock-timeout 60 set /phase2/status '\"done\"'; echo =$?=")
        shell.wait(lambda _: is_open(state.path.parent / ".pipeline" / "queue.lock"))
        shell.press("C-c")
        screen = shell.wait("=130=")

    assert "Traceback" not in screen
    assert state.path.read_bytes() == before


def test_a_question_is_asked_and_no_is_an_answer(shell, state):
    shell.type("clear; gitstate prune --keep 1; echo =$?=")
    shell.wait("[y/N]")
    shell.type("n")

    assert "=1=" in shell.wait("=1=")
    assert len(list(state.log())) == 41


def test_a_question_shows_what_cannot_be_seen(shell, state):
    state.create_backup("be\u202efore")
    state.write({})
    shell.type("clear; gitstate prune --keep 0")

    assert "but for be\\u202efore" in shell.wait("[y/N]")
    shell.type("n")


def test_the_end_of_the_input_is_a_no_and_ctrl_c_is_none(shell, state):
    shell.type("clear; gitstate prune --keep 1; echo =$?=")
    shell.wait("[y/N]")
    shell.press("C-d")
    screen = shell.wait("=1=")
    assert "nothing was changed" in screen
    shell.type("clear; gitstate prune --keep 2; echo =$?=")
    shell.wait("1 to 38 for good? [y/N]")
    shell.press("C-c")

    assert "interrupted" in shell.wait("=130=")
    assert len(list(state.log())) == 41


def test_a_page_ends_with_its_last_line_and_is_no_command_of_the_terminal(shell, state):
    with state.transaction(validate=False) as txn:
        txn.data["phase2"]["note"] = "a\x1b[2Jb\u202ec\nd"

    assert shell.run("gitstate get /phase2/status; echo end")[1] == '"failed"\nend'
    assert shell.run("gitstate get --raw /phase2/note")[1] == "a\\x1b[2Jb\\u202ec\nd"
    assert shell.run("gitstate get --raw /phase2/note | cat -v")[1].startswith("a^[[2Jb")


def test_a_dumb_terminal_gets_neither_colours_nor_a_pager(state):
    with terminal(state.path.parent, TERM="dumb") as made:
        made.type("gitstate log; echo =$?=")
        made.wait("=0=")
        screen = made.screen(colored=True)

    assert "\x1b[" not in screen
    assert screen.splitlines()[-3].startswith(" 1 ") or " 1 " in screen


def said_on_terminal(state: PipelineState, *arguments: str, **variables: str) -> str:
    """What the command writes to a standard error that is a terminal."""
    terminal, its = pty.openpty()
    process = subprocess.Popen(
        ["sh", "-c", '"$@"; printf end >&2', "sh", *COMMAND, *arguments],
        cwd=state.path.parent,
        env=environment(**variables),
        stdout=subprocess.DEVNULL,
        stderr=its,
    )
    try:
        said = read_until(b"end", terminal)
        assert process.wait(60) == 0
        return said.decode()
    finally:
        os.close(its)
        os.close(terminal)


def test_a_bar_leaves_the_cursor_to_be_seen_and_is_drawn_only_by_who_knows_how(state):
    drawn = said_on_terminal(state, "verify", TERM="xterm")

    assert "checking" in drawn
    assert "\x1b[?25" not in drawn
    assert said_on_terminal(state, "verify", TERM="dumb") == "end"
    assert said_on_terminal(state, "--color", "never", "verify", TERM="xterm") == "end"


def test_tab_completes_verbs_and_places(shell):
    shell.type('eval "$(gitstate completion bash)"; clear; echo ready')
    shell.wait(lambda screen: screen.startswith("ready"))
    shell.tmux("send-keys", "-l", "gitstate stat")
    shell.press("Tab")
    shell.wait("gitstate status")
    shell.press("C-u")
    shell.tmux("send-keys", "-l", "gitstate get /phase2/metrics/s")
    shell.press("Tab")

    shell.wait("gitstate get /phase2/metrics/step")


def test_tab_quotes_what_would_be_a_line_of_the_history(shell, state):
    with state.transaction(validate=False) as txn:
        txn.data["why!echo"] = 7
    shell.type('eval "$(gitstate completion bash)"; clear; echo ready')
    shell.wait(lambda screen: screen.startswith("ready"))
    shell.tmux("send-keys", "-l", 'gitstate get "/w')
    shell.press("Tab")
    shell.wait('echo"')
    shell.press("Enter")

    shell.wait("\n7\n")
