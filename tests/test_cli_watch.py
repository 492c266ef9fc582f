"""watch: versions are told as they come, each once, whatever happens to the history meanwhile."""

import contextlib
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import COMMAND, PATIENCE_SECONDS, environment, refused

from gitstate import PipelineState


@contextlib.contextmanager
def watching(folder: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    """The command while it watches, which is killed if it does not end by itself."""
    with subprocess.Popen(
        [*COMMAND, "watch", *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # Whoever reads a line that does not come reads the end.
        too_long = threading.Timer(PATIENCE_SECONDS, process.kill)
        too_long.start()
        try:
            yield process
        finally:
            too_long.cancel()
            process.kill()


def begun(process: subprocess.Popen) -> None:
    """Waits until it watches."""
    assert process.stderr.readline().startswith("following")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state, and no version yet."""
    (tmp_path / "pipeline.json").write_text("{}\n")
    return tmp_path


def test_no_version_of_a_writer_beside_it_is_left_out_from_the_first_on(folder):
    with watching(folder, "-n", "40") as process, PipelineState(folder / "pipeline.json") as state:
        begun(process)
        for number in range(39):  # and what was there before, as an external edit
            state.write({"phase1": {"number": number}})
        out, err = process.communicate(timeout=60)

    assert process.returncode == 0
    assert err == ""
    assert [int(line.split()[0]) for line in out.splitlines()] == list(range(1, 41))


def test_lines_of_json_come_one_by_one_and_ctrl_c_ends_it(folder):
    state = PipelineState(folder / "pipeline.json")
    state.write({"phase1": {"status": "running"}, "phase2": {}})
    start = ("--since", "1", "--json", "-p", "/phase1/status")
    with watching(folder, *start) as process:
        row = json.loads(process.stdout.readline())
        assert row["value"] == "running"
        state.write({"phase1": {"status": "running"}, "phase2": {"status": "running"}})
        state.write({"phase1": {"status": "success"}, "phase2": {"status": "running"}})
        row = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert row["serial"] == 4
    assert row["changes"] == [
        {"op": "replace", "pointer": "/phase1/status", "old": "running", "new": "success"}
    ]
    assert (process.returncode, out, err) == (130, "", "")


def test_it_ends_with_who_reads_it(folder):
    with watching(folder) as process:
        begun(process)
        process.stdout.close()
        assert process.wait(60) == 141


def test_it_goes_on_behind_new_hashes_a_restore_and_pruned_versions(folder):
    with PipelineState(folder / "pipeline.json", max_backups=1) as state:
        for number in range(4):
            state.write({"phase1": {"number": number}})
    with watching(folder, "--since", "HEAD~1") as process:
        begun(process)
        assert process.stdout.readline().split()[0] == "5"
        state.reroot()
        state.restore_backup(4)
        assert process.stdout.readline().split()[0] == "6"
        process.send_signal(signal.SIGSTOP)  # it sleeps, and meanwhile much is done and forgotten
        for number in range(4):
            state.write({"phase1": {"number": number}})
        state.prune()
        process.send_signal(signal.SIGCONT)
        assert [process.stdout.readline().split()[0] for _ in range(2)] == ["9", "10"]
        assert "versions 7 to 8 were pruned before they were seen" in process.stderr.readline()


def test_a_history_that_is_gone_is_told_and_the_next_one_followed(folder):
    state = PipelineState(folder / "pipeline.json")
    state.write({"phase1": {}})
    with watching(folder) as process:
        begun(process)
        state.close()
        (folder / ".pipeline").rename(folder / "away")
        assert "the history is gone" in process.stderr.readline()
        PipelineState(folder / "pipeline.json").write({"phase2": {}})
        assert [process.stdout.readline().split()[0] for _ in range(2)] == ["1", "2"]


def test_what_cannot_be_watched_is_refused(folder, tmp_path_factory):
    assert "there is no version yet" in refused(1, "watch", "--since", "HEAD", cwd=folder)
    assert "gitstate init" in refused(10, "watch", cwd=tmp_path_factory.mktemp("empty"))
