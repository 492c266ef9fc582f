"""The command line as a whole: what it finds, what it says and where, what it ends with."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import COMMAND, environment, is_open, refused, run, wait_until
from rich.cells import cell_len

from gitstate import PipelineState
from gitstate.cli.app import APP, VERBS
from gitstate.cli.session import Session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state of three versions, the phase of which went from nothing to running to success."""
    with PipelineState(tmp_path / "pipeline.json") as state:
        state.write({"phase1": {"files": {}}})
        state.write({"phase1": {"files": {}, "status": "running"}})
        state.write({"phase1": {"files": {}, "status": "success"}})
    return tmp_path


def test_the_help_names_every_verb_and_imports_nothing_of_the_library(tmp_path):
    code = """
        import sys
        from gitstate.cli.app import run
        run(["--help"])
        print(*sys.modules, sep="\\n", file=sys.stderr)
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in code.splitlines())],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
        cwd=tmp_path,
    )

    loaded = set(done.stderr.split())
    assert all(f"\n  {name} " in done.stdout for verbs in VERBS.values() for name in verbs)
    assert not loaded & {
        "gitstate.state",
        "dulwich",
        "pydantic",
        "pydantic_core",
        "rich",
        "filelock",
    }


@pytest.mark.parametrize("name", [name for verbs in VERBS.values() for name in verbs])
def test_every_verb_is_there_and_says_what_it_does(name):
    context = APP.make_context("gitstate", [], resilient_parsing=True)
    command = APP.get_command(context, name)

    assert command.help
    assert command.help.splitlines()[0].rstrip().endswith((".", ":"))
    for each in (command, *getattr(command, "commands", {}).values()):
        shown = each.get_help(each.make_context(name, [], resilient_parsing=True))
        assert "--json" in shown


def test_n_is_a_number_and_a_dry_run_has_no_letter():
    context = APP.make_context("gitstate", [], resilient_parsing=True)
    commands = [APP.get_command(context, name) for verbs in VERBS.values() for name in verbs]
    commands += [each for one in commands for each in getattr(one, "commands", {}).values()]
    options = [option for command in commands for option in command.params]

    assert {option.name for option in options if "-n" in option.opts} == {"limit"}
    assert {tuple(o.opts) for o in options if "--dry-run" in o.opts} == {("--dry-run",)}


def test_a_state_is_found_from_a_folder_below_it(folder):
    below = folder / "a" / "b"
    below.mkdir(parents=True)

    assert run("get", "/phase1/status", cwd=below).out == '"success"\n'


@pytest.mark.parametrize("how", ["before", "behind", "folder", "environment"])
def test_a_state_is_named(how, folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    file = folder / "pipeline.json"
    arguments = {
        "before": ["-C", file, "get", "/phase1/status"],
        "behind": ["get", "/phase1/status", "--state", file],
        "folder": ["-C", folder, "get", "/phase1/status"],
        "environment": ["get", "/phase1/status"],
    }
    variables = {"GITSTATE_STATE": str(file)} if how == "environment" else {}

    assert run(*arguments[how], cwd=elsewhere, env=variables).out == '"success"\n'


@pytest.mark.parametrize(
    ("told", "place"),
    [
        ("new", "new/pipeline.json"),
        ("new/deeper", "new/deeper/pipeline.json"),
        ("new.json", "new.json"),
        ("new.d/", "new.d/pipeline.json"),
        ("there.d", "there.d/pipeline.json"),
        ("there.d/", "there.d/pipeline.json"),
        ("plain", "plain"),
        ("gone", "gone"),
        ("dangling", "dangling"),
        (".", "pipeline.json"),
    ],
)
def test_a_file_that_is_named_is_the_same_to_all_who_are_told_it(
    told, place, tmp_path, monkeypatch
):
    (tmp_path / "there.d").mkdir()
    (tmp_path / "plain").write_text("{}")
    (tmp_path / "dangling").symlink_to("nowhere")
    with PipelineState(tmp_path / "gone") as state:
        state.write({})
    (tmp_path / "gone").unlink()
    monkeypatch.chdir(tmp_path)

    session = Session()
    assert session.place(told) == Path(place)
    session.options.state = told
    assert session.place() == Path(place)


def test_a_new_state_is_where_it_is_looked_for(tmp_path):
    run("-C", "new/deeper", "init", cwd=tmp_path)
    assert (tmp_path / "new" / "deeper" / "pipeline.json").is_file()
    run("-C", "new/deeper", "set", "/a", "1", cwd=tmp_path)

    run("-C", "new/deeper", "export", "--bundle", "HEAD", tmp_path / "all.bundle", cwd=tmp_path)
    (tmp_path / "state").write_text("mine")
    for how in ([], ["--dry-run"]):
        said = refused(16, "clone", "all.bundle", "state", *how, cwd=tmp_path)
        assert "there is a state already" in said
    assert (tmp_path / "state").read_text() == "mine"


def test_where_there_is_no_state_it_says_how_to_make_one(tmp_path):
    assert "gitstate init" in refused(10, "get", cwd=tmp_path)
    assert "-C other.json init" in refused(10, "-C", "other.json", "get", cwd=tmp_path)
    assert "-C 'my own.json' init" in refused(10, "-C", "my own.json", "get", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_options_stand_before_the_verb_and_behind_it_and_add_up(folder):
    assert run("--json", "get", "/phase1", cwd=folder).document["status"] == "success"
    assert run("get", "/phase1", "--json", cwd=folder).document["status"] == "success"
    done = subprocess.run(
        [*COMMAND, "-v", "get", "/nothing", "-v"],
        check=False,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert "Traceback" in done.stderr


def test_an_error_is_a_line_and_with_json_a_document_and_data_is_neither(folder):
    said = refused(1, "get", "/phase1/statsu", cwd=folder)
    assert said.splitlines() == [
        "error: there is no /phase1/statsu",
        "hint: did you mean /phase1/status?",
    ]

    done = run("--json", "get", "/phase1/statsu", cwd=folder, check=False)
    assert done.out == ""
    assert done.error["code"] == "no-such-place"
    assert done.error["status"] == done.status == 1


def test_wrong_usage_is_status_2_and_with_json_a_document(folder):
    assert "did you mean set" in refused(2, "sett", "/a", "1", cwd=folder)
    assert "gitstate get --help" in refused(2, "get", "--nonsense", cwd=folder)
    assert run("get", "--nonsense", "--json", cwd=folder, check=False).error["code"] == "usage"
    for wrong in (["--color", "bad", "status"], ["--nonsense"], ["get", "--nonsense"]):
        done = run(*wrong, cwd=folder, check=False, env={"GITSTATE_JSON": "1"})
        assert done.error["code"] == "usage"
        refused(2, *wrong, cwd=folder, GITSTATE_JSON="0")
    assert run(cwd=folder, check=False).status == 2


def test_a_traceback_is_for_those_who_ask_for_it(folder):
    done = run("-vv", "get", "/nothing", cwd=folder, check=False)

    assert done.status == 1
    assert "Traceback" in done.err


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{", 15), (b"[]", 15), (b'{"a": 1, "a": 2}', 15), (None, 15)],
)
def test_a_damaged_state_is_status_15_and_says_how_to_put_it_back(content, status, folder):
    file = folder / "pipeline.json"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)

    assert "gitstate restore HEAD" in refused(status, "get", cwd=folder)


def test_a_change_against_the_schema_is_status_14_and_names_the_place(folder):
    before = (folder / "pipeline.json").read_bytes()

    assert "/phase1" in refused(14, "set", "/phase1", '"done"', cwd=folder)
    error = run("--json", "set", "/phase1", '"done"', cwd=folder, check=False).error
    assert error["pointer"] == "/phase1"
    assert error["problems"][0]["pointer"] == "/phase1"
    assert (folder / "pipeline.json").read_bytes() == before
    run("--schema", "none", "set", "/phase1", '"done"', cwd=folder)


def test_a_schema_whose_module_ends_the_process_is_wrong_usage(folder):
    (folder / "ends.py").write_text("raise SystemExit(0)")

    assert "SystemExit: 0" in refused(2, "--schema", "ends:Model", "set", "/a", "1", cwd=folder)


def test_a_state_with_nan_is_not_called_damaged_and_is_read_by_those_who_let_it_pass(tmp_path):
    with PipelineState(tmp_path / "pipeline.json", allow_nan=True) as state:
        state.write({"loss": float("nan")})

    for verb in (["get"], ["get", "--at", "1"]):
        assert "--allow-nan" in refused(15, *verb, cwd=tmp_path)
    assert run("--allow-nan", "get", "/loss", cwd=tmp_path).out == "NaN\n"
    assert run("get", "/loss", cwd=tmp_path, env={"GITSTATE_ALLOW_NAN": "1"}).out == "NaN\n"
    run("set", "--allow-nan", "--", "/least", "-Infinity", cwd=tmp_path)
    run("apply", "-", "--allow-nan", cwd=tmp_path, given='{"most": Infinity}')
    editor = {"EDITOR": "sed -i s/NaN/7.5/"}
    run("edit", "--allow-nan", cwd=tmp_path, env=editor)
    assert state.read() == {"loss": 7.5, "least": float("-inf"), "most": float("inf")}
    assert "is not JSON" in refused(2, "set", "/loss", "NaN", cwd=tmp_path)
    (tmp_path / "pipeline.json").write_text("{")
    assert "restore HEAD" in refused(15, "--allow-nan", "get", cwd=tmp_path)


CHANGES = {
    "set": ["set", "/a", "1"],
    "unset": ["unset", "/phase1/status"],
    "apply": ["apply", "patch.json"],
    "edit": ["edit"],
    "run": ["run", "true"],
    "restore": ["restore", "1"],
    "undo": ["undo"],
    "redo": ["redo"],
    "backup": ["backup", "name"],
    "pull": ["pull"],
    "reroot": ["reroot"],
    "remote add": ["remote", "add", "there", "server.git"],
    "remote remove": ["remote", "remove", "origin"],
    "import": ["import"],
    "delete": ["backup", "--delete", "first"],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_dry_run_refuses_what_the_run_does_where_another_version_is_expected(change, folder):
    (folder / "patch.json").write_text("{}")
    (folder / ".pipeline" / "backups").mkdir()
    old = folder / ".pipeline" / "backups" / "pipeline_20250301_120000_000000.json.bak"
    old.write_text("{}")
    with PipelineState(folder / "pipeline.json") as state:
        state.create_backup("first")
        state.remotes.add("origin", folder / "server.git")
    file = folder / "pipeline.json"
    file.write_text(file.read_text() + "\n")

    def said(*how: str) -> str:
        end = 1 if change[0] == "run" else len(change)  # what follows is the command's
        line = [*change[:end], "--expect", "3", *how, *change[end:]]
        return refused(13, *line, cwd=folder, EDITOR="true")

    assert "the state file holds something else" in said("--dry-run")
    if change not in (["reroot"], ["pull"]):  # there is nothing to do; nobody is there
        assert said() == said("--dry-run")


@pytest.mark.parametrize("how", [[], ["--dry-run"]])
def test_a_version_that_is_expected_and_was_pruned_meanwhile_is_stale(how, folder):
    with PipelineState(folder / "pipeline.json", max_backups=0) as state:
        state.prune()

    assert "pruned" in refused(13, "set", "/a", "1", "--expect", "1", *how, cwd=folder)


def test_a_lock_that_somebody_holds_is_status_11_and_names_them(folder):
    with PipelineState(folder / "pipeline.json").transaction(operation="long work"):
        said = refused(11, "--lock-timeout", "0", "set", "/a", "1", cwd=folder)
        error = run(
            "--json", "--lock-timeout", "0", "set", "/a", "1", cwd=folder, check=False
        ).error

    assert "long work" in said
    assert error["holder"]["pid"] == os.getpid()


def test_who_reads_no_further_is_status_141(folder):
    PipelineState(folder / "pipeline.json").write({"phase1": {"long": "x" * 300_000}})

    with subprocess.Popen(
        [*COMMAND, "get"], cwd=folder, env=environment(), stdout=-1, stderr=-1
    ) as process:
        assert process.stdout.read(10)
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 141
    assert said == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_an_output_that_cannot_be_written_is_told(folder):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "get"],
            check=False,
            cwd=folder,
            env=environment(),
            stdout=full,
            stderr=-1,
            text=True,
        )

    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_was_done_does_not_fail_because_nobody_is_told(unbuffered, folder):
    def status(*arguments: str) -> int:
        with open("/dev/full", "w") as full:
            return subprocess.run(
                [*COMMAND, *arguments],
                check=False,
                cwd=folder,
                env=environment(PYTHONUNBUFFERED=unbuffered),
                stderr=full,
            ).returncode

    assert status("set", "/phase1/status", '"failed"') == 0
    assert status("run", "--", "true") == 0
    assert status("run", "--", "false") == 1
    assert status("nonsense") == 2
    state = PipelineState(folder / "pipeline.json").read()
    assert (state["phase1"]["status"], state["runs"]["true"]["status"]) == ("failed", "success")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_standard_stream_that_is_closed_is_as_one_that_goes_nowhere(closed, folder):
    hook = folder / ".pipeline" / "hooks" / "post-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho noise\necho noise >&2\n")
    hook.chmod(0o755)

    def status(*arguments: str) -> int:
        done = subprocess.run(
            f"{shlex.join([*COMMAND, *arguments])} {closed}",
            shell=True,
            check=False,
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr
        return done.returncode

    assert status("set", "/phase1/status", '"failed"') == 0
    assert status("get") == status("status") == 0
    assert status("nonsense") == 2
    state = PipelineState(folder / "pipeline.json")
    assert state.read()["phase1"]["status"] == "failed"
    assert not state.verify().problems


def test_what_the_system_refuses_is_not_blamed_on_the_output(folder):
    nowhere = {"TMPDIR": "/nowhere", "EDITOR": "true"}
    code = (
        "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/nowhere'];"
        "from gitstate.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "edit"],
        check=False,
        cwd=folder,
        env=environment(**nowhere),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert done.stderr == (
        "error: the system refused: No usable temporary directory found in ['/nowhere']\n"
    )


def test_ctrl_c_behind_the_commit_says_which_version_stays(folder):
    hook = folder / ".pipeline" / "hooks" / "post-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch ready\nexec sleep 60\n")
    hook.chmod(0o755)

    with subprocess.Popen(
        [*COMMAND, "set", "/phase1/status", '"failed"'],
        cwd=folder,
        env=environment(),
        stderr=-1,
        text=True,
        start_new_session=True,
    ) as process:
        wait_until((folder / "ready").exists, process)
        os.killpg(process.pid, signal.SIGINT)
        said = process.stderr.read()

    assert process.returncode == 130
    newest = next(PipelineState(folder / "pipeline.json").log())
    assert newest.read()["phase1"]["status"] == "failed"
    made = f"version {newest.serial} ({newest.short_id})"
    assert said.splitlines()[-1] == f"interrupted; {made} was made, and stays"


@pytest.mark.parametrize("module", ["gitstate.cli", "click", "gitstate.cli.app", "gitstate.state"])
def test_ctrl_c_while_it_starts_is_status_130_and_no_traceback(module, folder, tmp_path_factory):
    early = tmp_path_factory.mktemp("early")
    (early / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting)\n"
    )
    path = os.pathsep.join([str(early), environment()["PYTHONPATH"]])
    done = run("get", cwd=folder, check=False, env={"PYTHONPATH": path})

    assert done.status == 130
    assert done.out == ""
    assert done.err in ("", "interrupted\n")


def test_ctrl_c_while_it_waits_for_the_lock_is_status_130_and_changes_nothing(folder):
    before = (folder / "pipeline.json").read_bytes()
    with PipelineState(folder / "pipeline.json").transaction():
        process = subprocess.Popen(
            [*COMMAND, "--lock-timeout", "60", "set", "/a", "1"],
            cwd=folder,
            env=environment(),
            stderr=-1,
            text=True,
        )
        wait_until(lambda: is_open(folder / ".pipeline" / "queue.lock"), process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        said = process.stderr.read()
        process.stderr.close()

    assert said == "interrupted\n"
    assert (folder / "pipeline.json").read_bytes() == before


def test_nothing_of_a_state_takes_hold_of_the_terminal(folder):
    hostile = "\x1b[2J\x9b31m\u202etxt"
    PipelineState(folder / "pipeline.json").write(
        {"phase1": {"errors": [hostile]}, hostile: 1}, message="\x1b]0;owned\x07"
    )

    for verb in ("get", "show", "log", "history", "status", "blame"):
        assert not set("\x1b\x07\x9b\u202e") & set(run(verb, cwd=folder).out)
    assert run("get", "--raw", "/phase1/errors/0", cwd=folder).out == f"{hostile}\n"


UNSEEN = "\u061c\u200b\u200d\u200f\u2028\u2029\u2060\ufeff\U000e0041"


def test_what_cannot_be_seen_or_turns_the_text_around_is_escaped(folder):
    written = {"phase1": {"title": UNSEEN}, f"a{UNSEEN}": 1}
    PipelineState(folder / "pipeline.json").write(written, message=f"m{UNSEEN}")

    for verb in ("get", "show", "log", "history", "status", "blame", "diff"):
        assert not set(UNSEEN) & set(run(verb, cwd=folder).out)
    assert "\\u2028" in refused(1, "get", "/x", cwd=folder)
    assert not set(UNSEEN) & set(run("-vv", "get", f"/{UNSEEN}", cwd=folder, check=False).err)
    assert run("get", cwd=folder).document == written
    assert run("get", "--json", cwd=folder).document == written


def test_no_line_is_forged_by_what_a_state_or_a_message_holds(folder):
    file = folder / "pipeline.json"
    forged = "x\nversion  666\r\terror: forged"
    with PipelineState(file) as state:
        state.write({"phase1": {"status": "success"}, forged: 1})
    text = file.read_text().replace('"status": "success"', '"status": "x\\nversion  666"')
    file.write_text(text.replace('"phase1"', '"file_id": "x\\nversion  666", "phase1"'))

    runs = [run("set", "/n", "1", "-m", forged, "--schema", "none", cwd=folder)]
    runs += [run(verb, cwd=folder) for verb in ("status", "log", "diff", "blame", "history")]
    runs.append(run("get", "/nothing", cwd=folder, check=False))

    for done in runs:
        lines = (done.out + done.err).splitlines()
        assert not any(line.startswith(("version  666", "error: forged")) for line in lines)
        assert "\r" not in done.out + done.err
    assert r"x\nversion  666\terror: forged" in runs[0].err
    assert r"x\nversion  666\r\terror: forged" in runs[-1].err


def hint(*arguments: str, cwd: Path) -> str:
    """The next step that it names when it refuses that."""
    return run(*arguments, cwd=cwd, check=False).err.splitlines()[-1].removeprefix("hint: ")


@pytest.mark.parametrize("text", ["it's", 'say "hi"', '1,"x":2', "$(touch owned)", "running"])
def test_a_string_is_typed_as_the_hint_says(text, folder):
    said = hint("set", "/phase1/title", text, cwd=folder)
    (typed,) = shlex.split(
        said.removeprefix("quote a string twice, ").removesuffix(", or use --string")
    )
    run("set", "/phase1/title", typed, cwd=folder)

    assert run("get", "-r", "/phase1/title", cwd=folder).out == f"{text}\n"


def test_what_python_calls_otherwise_is_named_as_json_has_it(folder):
    assert hint("set", "/n", "True", cwd=folder) == "JSON has true for that"
    assert hint("set", "/n", "None", cwd=folder) == "JSON has null for that"


def test_a_hint_can_be_copied_whatever_words_are_in_it(folder):
    PipelineState(folder / "pipeline.json").write({"phase1": {}, "a b": {"c;d": 1}})
    gone = ["get", "--at", "4"]
    bare = folder / "my own"
    bare.mkdir()
    (bare / "HEAD").touch()

    assert hint(*gone, "/a b/c;e", cwd=folder) == "did you mean '/a b/c;d'?"
    assert hint(*gone, "/a b/x", cwd=folder) == "there is '/a b/c;d'"
    assert hint(*gone, "/a b/c;d/x", cwd=folder) == "there is nothing below '/a b/c;d'"
    assert hint("get", "a b", cwd=folder) == "did you mean '/a b'?"
    assert "clone 'u;touch x' FOLDER" in hint("clone", "--dry-run", "u;touch x", ".", cwd=folder)
    assert "mean 'my own/hooks'" in hint("hooks", "install", "pre-receive", "my own", cwd=folder)
    run("unset", "/a b", cwd=folder)
    assert hint("restore", "4", "/a b/c;d", cwd=folder).endswith(" '/a b'")


def test_what_python_warns_of_is_a_line_as_any_other(folder):
    settings = {"PYTHONWARNINGS": "default"}
    done = run("set", "/phase1/status", '"odd"', "--dry-run", cwd=folder, env=settings)

    assert done.err.startswith("warning: unknown status 'odd' at /phase1/status")
    assert len(done.err.splitlines()) == 1


def test_colours_are_for_terminals_and_for_those_who_ask(folder):
    plain = run("set", "/phase1/status", '"failed"', "--dry-run", cwd=folder).out
    colored = run(
        "--color", "always", "set", "/phase1/status", '"failed"', "--dry-run", cwd=folder
    ).out

    assert "\x1b[" not in plain
    assert "\x1b[" in colored
    assert "\x1b[" not in run("--color=always", "--json", "get", cwd=folder).out


def begins(out: str, wanted: str) -> set[int]:
    """At which columns of a terminal that stands in the lines that have it."""
    return {cell_len(line[: line.index(wanted)]) for line in out.splitlines() if wanted in line}


def test_columns_stand_below_each_other_whatever_the_letters_are(tmp_path):
    with PipelineState(tmp_path / "pipeline.json") as state:
        state.write({"阶段一": "here", "ascii": "here", "😀😀": "here"}, operation="阶段一")
        for number in range(3):
            state.write({"阶段一": f"there {number}"}, operation="w", message="很多很多问题" * 20)
            state.create_backup(f"备份{'份' * number}")

    for verb in (["show", "1"], ["diff", "1", "2"], ["blame"], ["blame", "-r"]):
        assert len(begins(run(*verb, cwd=tmp_path).out, '"')) == 1
    wide = {"COLUMNS": "80"}
    out = run("log", cwd=tmp_path, env=wide).out
    assert begins(out, "(") == begins(out.splitlines()[-1], "阶段一, ascii, 😀😀")
    history = run("history", cwd=tmp_path).out
    ids = [version.short_id for version in state.log()]
    assert len(set.union(*(begins(history, each) for each in ids))) == 1
    for verb, lines in {"backups": 4, "log": 4, "history": 4}.items():
        out = run(verb, cwd=tmp_path, env=wide).out
        assert len(out.splitlines()) == lines
        assert all(cell_len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize("columns", ["0", "1", "-3", "wide"])
def test_a_width_that_is_none_counts_as_not_set(columns, folder):
    for verb in ("get", "diff", "nonsense"):
        usual = run(verb, cwd=folder, check=False)
        assert run(verb, cwd=folder, check=False, env={"COLUMNS": columns}) == usual
    assert all(
        len(line) <= 20 for line in run("log", cwd=folder, env={"COLUMNS": "20"}).out.splitlines()
    )


def test_without_the_extra_it_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['rich'] = None; import importlib.util as u; f = u.find_spec;"
        "import gitstate.cli as c; c.find_spec = lambda n: None if n == 'rich' else f(n); c.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env=environment(),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert done.returncode == 1
    assert done.stderr == (
        "gitstate: the command line needs rich: pip install rich, or gitstate with its extra [cli]\n"
    )
