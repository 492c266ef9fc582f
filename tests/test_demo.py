"""The demo shows every guarantee, and notices when one does not hold."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gitstate import PipelineState

SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "data" / "sample_pipeline.json"

SECTIONS = [
    "Commit and rollback",
    "Isolation: a reader beside an open transaction",
    "Earlier versions, and restore by hash",
    "Five processes, one counter",
    "A state against the schema",
    "A process killed in the middle of a commit",
    "An edit by somebody else",
    "A lock that somebody holds",
    "The log of it all",
]

# What breaks a guarantee, as a sitecustomize module: the demo's own processes are broken too.
NO_RESTORE = "PipelineState.restore_backup = lambda self, version: True"
NO_LOCK = "gitstate.lock.lock_descriptor = lambda descriptor, blocking: True"
NO_RECOVERY = "PipelineState.read = lambda self: json.loads(self.path.read_bytes())"


def demo(tmp_path: Path, *arguments: str | Path, broken: str = "") -> subprocess.CompletedProcess:
    """Runs the demo in a folder for temporary files of its own."""
    temporary = tmp_path / "temporary"
    temporary.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(temporary)}
    if broken:
        module = tmp_path / "sitecustomize.py"
        module.write_text(
            f"import json, gitstate.lock\nfrom gitstate import PipelineState\n{broken}\n"
        )
        environment["PYTHONPATH"] = str(tmp_path)
    return subprocess.run(
        [sys.executable, "-m", "gitstate.demo", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What the demo prints without arguments, and the folder it had for temporary files."""
    folder = tmp_path_factory.mktemp("plain")
    return demo(folder), folder / "temporary"


def test_it_shows_every_section_and_every_guarantee_holds(plain):
    done, _ = plain

    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert re.findall(r"^\d+\. (.*)$", done.stdout, re.MULTILINE) == SECTIONS
    assert len(re.findall(r"^  ok ", done.stdout, re.MULTILINE)) > 25
    assert "FAILED" not in done.stdout


def test_it_fits_80_columns(plain):
    done, _ = plain
    _, *lines = done.stdout.splitlines()  # the first names the folder, which may be long

    assert [line for line in lines if len(line) > 80] == []


def test_it_leaves_nothing_behind(plain):
    _, temporary = plain

    assert list(temporary.iterdir()) == []


def test_a_real_file_is_copied_and_left_as_it_is(tmp_path):
    if not SAMPLE.exists():
        pytest.skip("../shared/data/sample_pipeline.json is not there")
    before = hashlib.sha256(SAMPLE.read_bytes()).digest()

    done = demo(tmp_path, "--state", SAMPLE)

    assert done.returncode == 0, done.stdout
    assert "The file that was copied" in done.stdout
    assert hashlib.sha256(SAMPLE.read_bytes()).digest() == before
    assert not SAMPLE.with_name(".pipeline").exists()


def test_a_file_against_the_schema_will_do_and_keep_leaves_the_folder(tmp_path):
    file = tmp_path / "odd.json"
    file.write_text('{"phase1": "done", "phase4": [1, 2], "chunks": "no"}')

    done = demo(tmp_path, "--state", file, "--keep")

    assert done.returncode == 0, done.stdout
    (folder,) = (tmp_path / "temporary").iterdir()
    assert done.stdout.endswith(f"kept: {folder}\n")
    oldest = list(PipelineState(folder / "pipeline.json").log())[-1]
    assert oldest.read() == {"phase1": "done", "phase4": [1, 2], "chunks": "no"}


@pytest.mark.parametrize("content", [None, "", "[1, 2]", '{"a": 1, "a": 2}', '{"a": NaN}'])
def test_a_file_that_is_no_state_is_bad_usage(tmp_path, content):
    file = tmp_path / "bad.json"
    if content is not None:
        file.write_text(content)

    done = demo(tmp_path, "--state", file)

    assert done.returncode == 2
    assert f"error: cannot use {file}: " in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "temporary").iterdir()) == []


def test_an_unknown_option_is_bad_usage(tmp_path):
    assert demo(tmp_path, "--fast").returncode == 2


@pytest.mark.parametrize(
    ("broken", "claim"),
    [
        (NO_RESTORE, "the state is that version's again"),
        # Without a lock the store may be damaged before anybody waits for one.
        (NO_LOCK, "(who waits in vain is told who holds the lock|the section comes to its end)"),
        (NO_RECOVERY, "it finished the commit"),
    ],
)
def test_a_broken_guarantee_is_said_and_is_exit_status_1(tmp_path, broken, claim):
    done = demo(tmp_path, broken=broken)

    assert done.returncode == 1
    assert re.search(rf"^  FAILED +{claim}", done.stdout, re.MULTILINE), done.stdout
    assert re.findall(r"^\d+\. (.*)$", done.stdout, re.MULTILINE) == SECTIONS
    assert re.search(r"^FAILED: \d+ of the guarantees above$", done.stdout, re.MULTILINE)
