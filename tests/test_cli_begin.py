"""init, import: how a history begins, and what it leaves as it is."""

import json
from pathlib import Path

import pytest
from command import refused, run
from oracle import forks
from races import run_behind

from gitstate import PipelineState


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A folder in which another state manager has left three backups, one of them damaged, and a line of its log."""
    folder = tmp_path / ".pipeline"
    (folder / "backups").mkdir(parents=True)
    folder.chmod(0o700)
    for hour, content in enumerate(('{"phase1": {}}', '{"phase2": {}}', "{"), start=10):
        name = f"pipeline_20250301_{hour}0000_000000.json.bak"
        (folder / "backups" / name).write_text(content)
    line = {"timestamp": "2025-03-01T10:30:00", "operation": "write_rollback", "success": False}
    (folder / "transactions.log").write_text(json.dumps(line) + "\n")
    return tmp_path


def test_init_makes_a_state_once_and_says_what_comes_next(tmp_path):
    (tmp_path / ".git").mkdir()
    tried = run("init", "--dry-run", cwd=tmp_path)
    assert "would be made" in tried.err
    assert [each.name for each in tmp_path.iterdir()] == [".git"]

    done = run("init", "--max-backups", "all", cwd=tmp_path)
    assert done.out == ""
    assert "version 1 (" in done.err
    assert "ignore pipeline.json.lock" in done.err
    assert "gitstate set -p /phase1/status" in done.err
    state = PipelineState(tmp_path / "pipeline.json")
    assert state.read() == {}
    assert json.loads((state.git_dir.parent / "settings.json").read_text())["max_backups"] is None

    again = run("init", "--json", cwd=tmp_path).document
    assert (again["made"], again["version"]["serial"]) == (False, 1)
    assert len(list(state.log())) == 1


@pytest.mark.parametrize("verb", ["init", "import"])
def test_a_history_that_there_is_keeps_as_many_versions_as_before(tmp_path, verb):
    state = PipelineState(tmp_path / "pipeline.json", max_backups=9)
    for number in range(4):
        state.write({"n": number})
    (tmp_path / "old" / "backups").mkdir(parents=True)
    (tmp_path / "old" / "backups" / "pipeline_20250301_120000_000000.json.bak").write_text("{}")
    folder = ["old"] if verb == "import" else []

    said = refused(2, verb, *folder, "--max-backups", "1", cwd=tmp_path)

    assert "keeps 9 earlier versions" in said
    assert "gitstate prune --keep" in said
    run(verb, *folder, "--max-backups", "9", cwd=tmp_path)
    assert [version.serial for version in state.log()] == [4, 3, 2, 1]
    assert PipelineState(state.path).max_backups == 9


def test_init_takes_a_file_in_as_it_is_and_makes_a_folder(tmp_path):
    file = tmp_path / "other.json"
    file.write_text('{"phase1":   3}')
    for typed in (["-C", "b.json", "init", "other.json"], ["init", "other.json", "-C", "b.json"]):
        assert "both name the state" in refused(2, *typed, cwd=tmp_path)
    elsewhere = {"GITSTATE_STATE": "elsewhere.json"}
    done = run("init", "other.json", "--json", cwd=tmp_path, env=elsewhere)

    assert file.read_text() == '{"phase1":   3}'
    assert done.document["made"] is True
    assert done.document["path"] == str(file)
    assert done.document["version"]["serial"] == 1
    assert "at /phase1" in json.loads(done.err)["warning"]

    assert "gitstate -C new set" in run("init", "new", cwd=tmp_path).err
    assert PipelineState(tmp_path / "new" / "pipeline.json").read() == {}


@forks
@pytest.mark.parametrize("how", ["by a transaction", "by another program"])
def test_init_leaves_what_somebody_begins_just_then(tmp_path, how):
    file = tmp_path / "pipeline.json"
    content = '{"phase1": {"status": "success"}}'

    def begin() -> None:
        if how == "by a transaction":
            PipelineState(file).write(json.loads(content))
        else:
            file.write_text(content)

    done = run_behind(begin, "-C", file, "init")

    assert done["made"] is (how == "by another program")
    assert done["version"]["serial"] == 1
    assert PipelineState(file).read() == json.loads(content)
    assert len(list(PipelineState(file).log())) == 1


def test_what_is_no_state_is_left_as_it_is(tmp_path):
    file = tmp_path / "pipeline.json"
    file.write_text('{"phase1": ')

    said = refused(15, "init", cwd=tmp_path)
    assert "by hand" in said
    assert "restore" not in said
    assert file.read_text() == '{"phase1": '
    assert [each.name for each in tmp_path.iterdir()] == ["pipeline.json"]


def test_backups_of_another_state_manager_begin_a_history(left):
    before = set(left.rglob("*"))
    assert "gitstate import begins it" in refused(1, "init", cwd=left)
    tried = run("import", "--dry-run", cwd=left)
    assert "2 versions and 1 line of the audit trail would be taken in" in tried.err
    assert "warning: left out: " in tried.err
    assert set(left.rglob("*")) == before

    report = run("import", "--json", cwd=left).document
    assert (report["versions"], report["audit"], len(report["skipped"])) == (2, 1, 1)
    state = PipelineState(left / "pipeline.json")
    assert [version.operation for version in state.log()] == ["import", "import"]


def test_backups_beside_a_history_get_names(left):
    PipelineState(left / "pipeline.json").write({"phase3": {}})

    names = run("import", ".pipeline", cwd=left).out.splitlines()

    assert len(names) == 2
    assert set(names) == set(PipelineState(left / "pipeline.json").named_backups())


def test_more_backups_than_are_kept_are_taken_in_by_whoever_says_how_many(left):
    for minute in range(50):
        name = f"pipeline_20250301_09{minute:02}00_000000.json.bak"
        (left / ".pipeline" / "backups" / name).write_text(f'{{"phase{minute}": {{}}}}')

    assert "--max-backups all" in refused(2, "import", cwd=left)
    for wrong in ("9" * 5000, "-1", "some"):
        said = refused(2, "import", "--max-backups", wrong, cwd=left)
        assert "is neither a number, 0 or more, nor all" in said
    run("import", "--max-backups", "all", cwd=left)
    assert len(list(PipelineState(left / "pipeline.json").log())) == 52


def test_an_import_of_nothing_into_nothing_is_no_success(tmp_path):
    assert "gitstate init" in refused(10, "import", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
