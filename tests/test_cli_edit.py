"""The verbs edit and apply."""

import io
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
from command import COMMAND, environment, read_until, refused, run, wait_until

from gitstate import PipelineState
from gitstate.cli.options import Options
from gitstate.cli.output import Output
from gitstate.cli.process.editor import Editing
from gitstate.cli.refusal import Refusal
from gitstate.diff import diff, to_json_patch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state of one version, and one for what is kept."""
    (tmp_path / "kept").mkdir()
    with PipelineState(tmp_path / "pipeline.json") as state:
        state.write({"phase1": {"status": "running", "metrics": {}}, "note": "old"})
    return tmp_path


def read(folder):
    return PipelineState(folder / "pipeline.json").read()


def editor(folder, script, **more):
    """The variables for an editor that does what the script says to the file `$1`."""
    place = folder / "an editor"
    place.mkdir(exist_ok=True)
    (place / "edit.sh").write_text(script)
    return {"EDITOR": f"sh '{place}/edit.sh'", "TMPDIR": os.fspath(folder / "kept"), **more}


def kept(folder):
    """The texts that are kept; nobody else can read them."""
    files = sorted((folder / "kept").glob("*/*"))
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert all(file.parent.stat().st_mode & 0o777 == 0o700 for file in files)
    return [file.read_text() for file in files]


def test_what_was_edited_is_put_in_its_place(folder):
    env = editor(folder, 'stat -c %a "$1" >&2; echo printed; sed -i s/running/success/ "$1"')

    done = run("edit", "/phase1", "--json", "-m", "by hand", cwd=folder, env=env)

    assert "600" in done.err.splitlines()
    assert "printed" in done.err.splitlines()
    assert done.document["version"]["message"] == "by hand"
    assert [change["pointer"] for change in done.document["changes"]] == ["/phase1/status"]
    assert read(folder)["phase1"] == {"status": "success", "metrics": {}}
    assert list((folder / "kept").iterdir()) == []


def test_which_editor_it_is_is_chosen_by_three_variables(folder):
    chosen = editor(folder, 'echo \'{"note": "gitstate"}\' > "$1"')["EDITOR"]
    env = {"GITSTATE_EDITOR": chosen, "VISUAL": "false", "EDITOR": "false"}

    out = run("edit", "--dry-run", cwd=folder, env=env).out

    assert '~ /note    "old" -> "gitstate"' in out
    assert read(folder)["note"] == "old"
    said = refused(1, "edit", cwd=folder, VISUAL="nonsuch", EDITOR="true")
    assert "'nonsuch' cannot be run: No such file" in said


@pytest.mark.parametrize(
    ("chosen", "said"), [("", "there is no terminal for vi"), ("vi 'x", "No closing quotation")]
)
def test_an_editor_that_cannot_be_is_refused_and_how_to_name_one_is_told(chosen, said, monkeypatch):
    monkeypatch.setenv("GITSTATE_EDITOR", chosen)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())

    with pytest.raises(Refusal, match=said) as caught:
        Editing("{}", Output(Options()))
    assert caught.value.status == 2
    assert "EDITOR" in caught.value.hint


def test_an_editor_that_does_not_wait_is_told_of(folder):
    said = run("edit", cwd=folder, env=editor(folder, "true")).err

    assert "has to wait until that is closed" in said
    assert said.splitlines()[-1] == "nothing to change"
    slow = run("edit", cwd=folder, env=editor(folder, "sleep 1.1")).err
    assert slow == "nothing to change\n"


@pytest.mark.parametrize("script", [': > "$1"', 'cp "$1" x; rm "$1"; cp x "$1"'])
def test_a_text_as_it_was_or_none_changes_nothing(script, folder):
    done = run("edit", cwd=folder, env=editor(folder, script))

    assert done.err == "nothing to change\n"
    assert len(list(PipelineState(folder / "pipeline.json").log())) == 1
    assert list((folder / "kept").iterdir()) == []


@pytest.mark.parametrize(
    ("place", "written", "status", "said"),
    [
        ("/phase1", '{"status": running}', 2, "line 1 column 12"),
        ("/phase1", '"done"', 14, "/phase1"),
    ],
)
def test_what_cannot_be_taken_is_kept_where_there_is_nobody_to_ask(
    place, written, status, said, folder
):
    env = editor(folder, f"echo '{written}' > \"$1\"")

    done = run("edit", place, cwd=folder, env=env, check=False)

    assert done.status == status
    assert said in done.err
    assert kept(folder) == [f"{written}\n"]
    assert f"kept in {folder}/kept/" in done.err
    history = PipelineState(folder / "pipeline.json").get_transaction_history()
    assert len(history) == 1


def test_an_editor_that_fails_changes_nothing_and_loses_nothing(folder):
    env = editor(folder, 'echo "{}" > "$1"; exit 3')

    done = run("edit", cwd=folder, env=env, check=False)

    assert done.status == 1
    assert "ended with 3; nothing was changed" in done.err
    assert kept(folder) == ["{}\n"]
    assert read(folder)["note"] == "old"


def test_what_is_left_in_place_of_the_text_is_kept_and_told_behind_the_error(folder):
    env = editor(folder, 'rm "$1"; mkdir "$1"; echo mine > "$1/text"; exit 3')

    done = run("edit", cwd=folder, env=env, check=False)

    assert done.status == 1
    assert "ended with 3; nothing was changed" in done.err
    assert f"what you wrote is kept in {folder}/kept/" in done.err
    assert [each.read_text() for each in (folder / "kept").glob("*/*/text")] == ["mine\n"]


def test_a_text_that_cannot_be_written_down_leaves_nothing(folder):
    env = editor(folder, "touch opened")
    PipelineState(folder / "pipeline.json").write({"note": "x" * 5000})

    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", *COMMAND, "edit"],
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert list((folder / "kept").iterdir()) == []
    assert not (folder / "opened").exists()


def test_nobody_waits_while_the_editor_is_open_and_what_they_change_elsewhere_stays(folder):
    other = f"{' '.join(COMMAND)} --lock-timeout 0 set /note '\"new\"'"
    env = editor(folder, f'{other} && sed -i s/running/success/ "$1"')

    run("edit", "/phase1/status", cwd=folder, env=env)

    assert read(folder) == {"phase1": {"status": "success", "metrics": {}}, "note": "new"}


def test_a_value_that_somebody_else_changed_meanwhile_is_a_conflict(folder):
    other = f"{' '.join(COMMAND)} set /phase1/status '\"failed\"'"
    env = editor(folder, f'{other} && sed -i s/running/success/ "$1"')

    done = run("edit", "/phase1", "--json", cwd=folder, env=env, check=False)

    assert (done.status, done.error["code"]) == (13, "edited")
    assert '"success"' in kept(folder)[0]
    assert read(folder)["phase1"]["status"] == "failed"


def test_what_is_expected_is_looked_at_before_the_editor_is_opened(folder):
    PipelineState(folder / "pipeline.json").write({})

    said = refused(13, "edit", "--expect", "1", cwd=folder, **editor(folder, "touch opened"))

    assert "version 1" in said
    assert not (folder / "opened").exists()


def test_on_a_terminal_it_is_edited_again_from_where_it_was_left(folder):
    first, then = """echo {oops > "$1"; touch again""", """cp "$1" again; sed -i s/oops/}/ "$1\""""
    env = editor(folder, f"if test -e again; then {then}; else {first}; fi")
    master, slave = pty.openpty()

    with subprocess.Popen(
        [*COMMAND, "edit"], cwd=folder, env=environment(**env), stdin=slave, stdout=-1, stderr=slave
    ) as process:
        os.close(slave)
        said = read_until(b"Edit again?", master)
        os.write(master, b"y\n")
        read_until(b"version 2", master)
        assert process.wait(60) == 0
        assert process.stdout.read() == b""
    os.close(master)

    assert b"what you wrote is not JSON" in said
    assert (folder / "again").read_text() == "{oops\n"
    assert read(folder) == {}
    assert kept(folder) == []


def test_ctrl_c_ends_an_editor_that_does_not_mind_it_and_keeps_the_text(folder):
    env = editor(folder, 'echo "{}" > "$1"; touch ready; exec sleep 60')

    with subprocess.Popen(
        [*COMMAND, "edit"],
        cwd=folder,
        env=environment(**env),
        stderr=-1,
        text=True,
        start_new_session=True,
    ) as process:
        wait_until((folder / "ready").exists, process)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]

    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert kept(folder) == ["{}\n"]


def test_a_patch_of_either_kind_is_applied(folder):
    before = read(folder)
    after = {"phase1": {"status": "success", "errors": []}, "note": "old"}
    (folder / "patch.json").write_text(str(to_json_patch(diff(before, after))).replace("'", '"'))

    document = run("apply", "patch.json", "-m", "patched", "--json", cwd=folder).document
    assert document["version"]["message"] == "patched"
    assert read(folder) == after

    merge = '{"phase1": {"errors": null}, "note": {"a": 1}}'
    shown = run("apply", "-", "--dry-run", cwd=folder, given=merge).out
    assert shown.splitlines() == ["- /phase1/errors  []", '~ /note           "old" -> {"a": 1}']
    assert read(folder) == after
    run("apply", "-", "--expect", "2", cwd=folder, given=merge)
    assert read(folder) == {"phase1": {"status": "success"}, "note": {"a": 1}}


@pytest.mark.parametrize(
    ("patch", "status", "code"),
    [
        ('[{"op": "test", "path": "/note", "value": "new"}]', 13, "patch-test"),
        ('[{"op": "remove", "path": "/note"}, {"op": "remove", "path": "/note"}]', 1, "patch"),
        ('[{"op": "add", "path": "/baz", "value": "qux", "op": "remove"}]', 2, "not-json"),  # A.13
        ('"note"', 2, "not-a-patch"),
    ],
)
def test_a_patch_that_cannot_be_applied_changes_nothing(patch, status, code, folder):
    before = (folder / "pipeline.json").read_bytes()

    done = run("apply", "-", "--json", cwd=folder, given=patch, check=False)

    assert (done.status, done.error["code"]) == (status, code)
    assert done.out == ""
    assert (folder / "pipeline.json").read_bytes() == before
