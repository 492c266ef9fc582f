"""Hooks: they are installed, and the store's own is run after each commit, whatever it does."""

import json
import logging
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
import tomllib
import zipfile
from pathlib import Path

import pytest

from gitstate import PipelineState, StateWriteError, hooks
from gitstate.hooks import SHIPPED, install, shipped, standing

TOP = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="hooks are scripts")

TELLING = """
    import json, os, sys
    told = {name: value for name, value in os.environ.items() if name.startswith("GIT")}
    told |= {"cwd": os.getcwd(), "stdin": sys.stdin.read()}
    with open(os.path.join(os.path.dirname(__file__), "told"), "a") as file:
        file.write(json.dumps(told) + "\\n")
"""


def make_hook(
    path: Path, program: str = TELLING, *, shebang: str = f"#!{sys.executable}\n"
) -> Path:
    """A hook of the state at `path`."""
    folder = path.parent / ".pipeline" / "hooks"
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, exist_ok=True)
    hook = folder / "post-commit"
    hook.write_text(shebang + textwrap.dedent(program))
    hook.chmod(0o755)
    return hook


def told(path: Path) -> list[dict[str, str]]:
    """What the hook was told, each time."""
    file = path.parent / ".pipeline" / "hooks" / "told"
    return list(map(json.loads, file.read_text().splitlines())) if file.exists() else []


def serials(path: Path) -> list[str]:
    return [each["GITSTATE_SERIAL"] for each in told(path)]


# -- after a commit --------------------------------------------------------------------------------------------------


def test_a_hook_is_told_what_was_committed(state, path, monkeypatch):
    make_hook(path)
    for name in [name for name in os.environ if name.startswith("GIT")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/elsewhere/index")
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -i key")

    version = state.write({"a": 1}, operation="chunking", message="B\u00fccher\n\nsecond try")

    assert (
        told(path)
        == [
            {
                "GITSTATE_STATE": str(path),
                "GITSTATE_VERSION": version.id,
                "GITSTATE_SERIAL": "1",
                "GITSTATE_OPERATION": "chunking",
                "GITSTATE_MESSAGE": "B\u00fccher\n\nsecond try",
                "GITSTATE_TIME": version.timestamp.isoformat(),
                "GITSTATE_GIT_DIR": str(state.git_dir),
                "GITSTATE_PYTHON": sys.executable,
                "GITSTATE_HOOK": "1",
                "GIT_SSH_COMMAND": "ssh -i key",  # how a remote is reached, the surrounding git does not decide
                "cwd": str(path.parent),
                "stdin": "",
            }
        ]
    )


def test_whatever_makes_a_version_is_followed_by_the_hook(state, path):
    make_hook(path)

    state.write({"a": 1})
    with state.transaction() as txn:
        txn.data["a"] = 2
    state.restore_backup(1)
    state.undo()
    state.redo()
    state.restore_backup(2, pointer="/a")
    path.write_text('{"a": 3}')
    state.create_backup("named")

    assert [each["GITSTATE_OPERATION"] for each in told(path)] == [
        "write",
        "transaction",
        "restore",
        "undo",
        "redo",
        "restore",
        "external_edit",
    ]
    assert serials(path) == [str(number) for number in range(1, 8)]


def test_an_edit_and_what_is_built_on_it_are_one_commit(state, path):
    state.write({"a": 1})
    make_hook(path)
    path.write_text('{"a": 2}')

    state.write({"a": 3})

    assert serials(path) == ["3"]


def test_what_makes_no_version_is_followed_by_nothing(state, path):
    state.write({"a": 1})
    make_hook(path)

    state.write({"a": 1})
    state.create_backup("named")
    state.delete_backup("named")
    with state.transaction() as txn:
        txn.data["a"] = 2
        txn.rollback()
    with pytest.raises(RuntimeError), state.transaction() as txn:
        txn.data["a"] = 2
        raise RuntimeError
    state.read()
    state.checkpoint()
    state.prune()
    state.close()
    with PipelineState(path, backup_before_write=False) as other:
        other.write({"a": 3})

    assert told(path) == []


def test_a_state_file_of_another_name_has_a_hook_of_its_own(tmp_path):
    path, other = tmp_path / "pipeline.json", tmp_path / "data.json"
    make_hook(path)
    install_here = tmp_path / ".pipeline" / "data.json.d" / "hooks"
    PipelineState(other).write({"a": 1})
    assert told(path) == []
    install_here.mkdir()
    (install_here / "post-commit").write_text(
        f"#!/bin/sh\necho $GITSTATE_SERIAL > {tmp_path / 'ran'}\n"
    )
    (install_here / "post-commit").chmod(0o755)

    PipelineState(other).write({"a": 2})

    assert (tmp_path / "ran").read_text() == "2\n"


def test_a_block_whose_handle_nobody_keeps_is_followed_by_the_hook(path):
    make_hook(path)

    with PipelineState(path).transaction() as txn:
        txn.data["a"] = 1

    assert serials(path) == ["1"]


def test_the_lock_is_free_and_a_hook_of_a_hook_is_not_run(state, path):
    make_hook(
        path,
        TELLING
        + """
    import logging
    from gitstate import PipelineState
    logging.basicConfig(level="WARNING")
    with PipelineState(os.environ["GITSTATE_STATE"], timeout=1) as state:
        with state.transaction() as txn:
            txn.data["seen"] = os.environ["GITSTATE_SERIAL"]
""",
    )

    state.write({"a": 1})

    assert state.read() == {"a": 1, "seen": "1"}
    assert serials(path) == ["1"]


def test_threads_that_share_a_handle_each_have_their_own_followed(state, path):
    make_hook(path)

    def write(mine: int) -> None:
        for number in range(4):
            with state.transaction() as txn:
                txn.data[f"{mine}"] = number

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(map(int, serials(path))) == list(range(1, 17))
    assert {each["GITSTATE_VERSION"] for each in told(path)} == {each.id for each in state.log()}


def test_a_long_message_is_cut_and_odd_ones_arrive(state, path):
    make_hook(path)

    state.write({"a": 1}, message="\u20ac" * 1_000_000, operation="o" * 1_000_000)
    state.write({"a": 2}, message="lone \ud800", operation="nul\0")

    first, second = told(path)
    assert set(first["GITSTATE_MESSAGE"]) == {"\u20ac"}
    assert second["GITSTATE_MESSAGE"] == "lone \\ud800"
    assert second["GITSTATE_OPERATION"] == "nul"


# -- whatever it does ------------------------------------------------------------------------------------------------


@pytest.fixture
def warnings(caplog):
    """The warnings of gitstate so far."""
    caplog.set_level(logging.WARNING, logger="gitstate")
    return lambda: [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_a_hook_that_fails_is_a_warning_that_says_what_it_said(state, path, warnings):
    make_hook(path, "import sys\nprint('said')\nsys.exit('no such host\\x1b[2J')\n")

    assert state.write({"a": 1}).serial == 1
    assert state.write({"a": 2}).serial == 2

    assert len(warnings()) == 2
    assert "exit status 1" in warnings()[0]
    assert "said no such host" in warnings()[0]
    assert "\x1b" not in warnings()[0]
    assert state.verify().ok


def test_a_hook_that_does_well_is_no_warning_whatever_it_says(state, path, warnings, capfd):
    make_hook(path, "import sys\nprint('all is well')\nprint('very well', file=sys.stderr)\n")

    state.write({"a": 1})

    assert warnings() == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("program", "shebang", "because"),
    [
        (TELLING, "", "Exec format error"),
        (TELLING, "#!/nowhere/python\n", "No such file"),
        ("import os\nos.kill(os.getpid(), 9)\n", f"#!{sys.executable}\n", "signal 9"),
    ],
)
def test_a_hook_that_cannot_run_is_a_warning(program, shebang, because, state, path, warnings):
    make_hook(path, program, shebang=shebang)

    state.write({"a": 1})

    assert len(warnings()) == 1
    assert because in warnings()[0]
    assert [version.serial for version in state.log()] == [1]


def gone(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def wait_for(condition) -> bool:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


FOREVER = """
    import os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(os.path.join(os.path.dirname(__file__), "pids"), "w") as file:
        print(os.getpid(), child.pid, file=file)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("silent", [False, True])
def test_a_hook_that_does_not_end_is_killed_with_what_it_has_started(
    silent, state, path, warnings, monkeypatch
):
    monkeypatch.setattr(hooks, "TIME_LIMIT", 1.0)
    close = "    os.close(1)\n    os.close(2)\n" if silent else ""
    hook = make_hook(path, FOREVER + close + "    time.sleep(600)\n")
    begun = time.monotonic()

    state.write({"a": 1})

    assert time.monotonic() - begun < 20
    assert len(warnings()) == 1
    assert "killed" in warnings()[0]
    pids = list(map(int, (hook.parent / "pids").read_text().split()))
    assert len(pids) == 2
    assert wait_for(lambda: all(map(gone, pids)))


def test_what_a_hook_leaves_running_is_not_waited_for(state, path, warnings):
    hook = make_hook(path, FOREVER)
    begun = time.monotonic()

    state.write({"a": 1})

    assert time.monotonic() - begun < 20
    assert warnings() == []
    os.kill(int((hook.parent / "pids").read_text().split()[1]), signal.SIGKILL)


def test_a_hook_that_says_very_much_is_not_kept_waiting(state, path, warnings):
    make_hook(
        path, "import sys\nfor _ in range(2000):\n    print('x' * 1000)\nsys.exit('the end')\n"
    )

    state.write({"a": 1})

    assert len(warnings()) == 1
    assert warnings()[0].endswith("the end")
    assert len(warnings()[0]) < 2000


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_an_interrupt_while_a_hook_runs_ends_it_and_the_version_stays(path):
    hook = make_hook(path, FOREVER + "    time.sleep(600)\n")
    program = "import sys, gitstate\ngitstate.PipelineState(sys.argv[1]).write({'a': 1})\n"
    process = subprocess.Popen([sys.executable, "-c", program, path], stderr=subprocess.PIPE)
    pids = hook.parent / "pids"
    assert wait_for(lambda: pids.exists() and pids.read_text().endswith("\n"))

    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]

    assert b"KeyboardInterrupt" in said
    assert wait_for(lambda: all(gone(int(each)) for each in pids.read_text().split()))
    assert PipelineState(path).read() == {"a": 1}


# -- whose it is -----------------------------------------------------------------------------------------------------


def by_everybody(hook: Path) -> None:
    hook.chmod(0o757)


def by_the_group(hook: Path) -> None:
    hook.chmod(0o775)


def folder_by_the_group(hook: Path) -> None:
    hook.parent.chmod(0o770)


def symlink(hook: Path) -> None:
    hook.rename(hook.with_name("real"))
    hook.symlink_to(hook.with_name("real"))


def broken_symlink(hook: Path) -> None:
    hook.unlink()
    hook.symlink_to("nowhere")


def folder_symlink(hook: Path) -> None:
    hook.parent.rename(hook.parent.with_name("real"))
    hook.parent.symlink_to("real")


def a_folder(hook: Path) -> None:
    hook.unlink()
    hook.mkdir()


def not_executable(hook: Path) -> None:
    hook.chmod(0o644)


def of_another(hook: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(hook, 12345, -1)


def folder_of_another(hook: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    os.chown(hook.parent, 12345, -1)


@pytest.mark.parametrize(
    "spoil",
    [
        by_everybody,
        by_the_group,
        folder_by_the_group,
        symlink,
        broken_symlink,
        folder_symlink,
        a_folder,
        not_executable,
        of_another,
        folder_of_another,
    ],
)
def test_a_hook_that_is_not_the_owners_alone_is_not_run_and_that_is_said_once(
    spoil, state, path, warnings
):
    hook = make_hook(path)
    spoil(hook)

    for number in range(3):
        state.write({"a": number})
    with PipelineState(path) as other:
        other.write({"a": 3})

    assert told(path) == []
    assert len(warnings()) == 1
    assert str(hook.parent) in warnings()[0]
    assert len(list(state.log())) == 4


# -- installing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_hook_is_installed_as_a_program(name, tmp_path):
    target = tmp_path / "hooks"

    made = install(name, str(target))

    assert made == target / name
    assert made.read_bytes() == shipped(name).read_bytes()
    assert os.access(made, os.X_OK)
    assert not made.stat().st_mode & 0o022
    assert [each.name for each in target.iterdir()] == [name]


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_a_program(name):
    assert stat.S_IMODE(shipped(name).stat().st_mode) == 0o755
    assert shipped(name).read_text().startswith("#!/usr/bin/env python3\n")


def test_a_hook_that_is_installed_can_be_installed_again(tmp_path):
    made = install("pre-receive", tmp_path)
    made.chmod(0o644)

    assert install("pre-receive", tmp_path) == made

    assert os.access(made, os.X_OK)


def test_it_is_told_whether_a_hook_is_installed(tmp_path):
    assert standing("pre-receive", tmp_path) == "missing"
    made = install("pre-receive", tmp_path)
    assert standing("pre-receive", tmp_path) == "installed"
    made.chmod(0o644)
    assert standing("pre-receive", tmp_path) == "missing"
    made.write_text("#!/bin/sh\n")
    assert standing("pre-receive", tmp_path) == "another"
    made.unlink()
    made.symlink_to("nowhere")
    assert standing("pre-receive", tmp_path) == "another"
    with pytest.raises(ValueError, match="pre-receive"):
        standing("update", tmp_path)


def another_file(hook: Path) -> None:
    hook.write_text("#!/bin/sh\n")


def a_link_to_it(hook: Path) -> None:
    hook.symlink_to(shipped("pre-receive"))


def a_link_to_nothing(hook: Path) -> None:
    hook.symlink_to("nowhere")


@pytest.mark.parametrize("there", [another_file, a_link_to_it, a_link_to_nothing, Path.mkdir])
def test_another_hook_is_not_overwritten(there, tmp_path):
    hook = tmp_path / "pre-receive"
    there(hook)
    before = hook.lstat()

    with pytest.raises(StateWriteError, match="pre-receive") as caught:
        install("pre-receive", tmp_path)

    assert caught.value.code == "hook-exists"
    assert caught.value.path == hook
    assert hook.lstat() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_dry_run_says_where_it_would_be_and_makes_no_folder(tmp_path: Path) -> None:
    planned = install("pre-receive", tmp_path / "hooks", dry_run=True)
    assert list(tmp_path.iterdir()) == []
    assert install("pre-receive", tmp_path / "hooks") == planned

    planned.write_text("#!/bin/sh\n")
    with pytest.raises(StateWriteError) as caught:
        install("pre-receive", tmp_path / "hooks", dry_run=True)
    assert caught.value.code == "hook-exists"
    assert planned.read_text() == "#!/bin/sh\n"


def test_a_hook_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ValueError, match="pre-receive"):
        install("update", tmp_path)
    with pytest.raises(ValueError, match="pre-receive"):
        install("../pyproject.toml", tmp_path)


def test_where_nothing_can_be_written_that_is_an_error_with_a_name(tmp_path):
    with pytest.raises(StateWriteError) as caught:
        install("pre-receive", tmp_path / "no" / "such" / "repository" / "hooks")
    assert caught.value.code == "write"

    (tmp_path / "file").write_text("")
    with pytest.raises(StateWriteError):
        install("pre-receive", tmp_path / "file")


def test_a_wheel_has_the_hooks(tmp_path):
    wheel = pytest.importorskip("hatchling.builders.wheel")
    [made] = wheel.WheelBuilder(str(TOP)).build(directory=str(tmp_path))
    with zipfile.ZipFile(made) as archive:
        archive.extractall(tmp_path / "installed")

    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from gitstate.hooks import SHIPPED, install; [print(install(name, sys.argv[1])) for name in SHIPPED]",
            tmp_path / "target",
        ],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == [str(tmp_path / "target" / name) for name in SHIPPED]
    for name in SHIPPED:
        assert (tmp_path / "target" / name).read_bytes() == (TOP / "hooks" / name).read_bytes()


def test_every_hook_is_shipped_and_linted():
    settings = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]
    there = sorted(each.name for each in (TOP / "hooks").iterdir() if "-" in each.name)

    assert list(SHIPPED) == there
    assert settings["ruff"]["extend-include"] == [f"hooks/{name}" for name in SHIPPED]
    included = settings["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert included == ["gitstate", *(f"hooks/{name}" for name in SHIPPED)]
