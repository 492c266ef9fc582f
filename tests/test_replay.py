"""A real history of a JSON document, the first 300 versions of it, written one after another."""

import json
import lzma
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from gitstate import PipelineState

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "fires.jsonl.xz"
SCRIPT = Path(__file__).parent / "benchmarks" / "replay.py"
VERSIONS = 300


@pytest.fixture(scope="module")
def documents():
    if not DATA.exists():
        pytest.skip("../shared/data/fires.jsonl.xz is not there")
    with lzma.open(DATA, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in islice(lines, VERSIONS)]


@pytest.fixture(scope="module")
def replayed(documents, tmp_path_factory):
    """The path of a state that has held each of the documents."""
    path = tmp_path_factory.mktemp("replay") / "pipeline.json"
    with PipelineState(path, max_backups=None, schema=None) as state:
        for document in documents:
            state.write(document)
    return path


def test_every_version_reads_back_equal(replayed, documents):
    state = PipelineState(replayed, schema=None)

    versions = list(state.log())[::-1]

    assert [version.serial for version in versions] == list(range(1, VERSIONS + 1))
    assert all(v.read() == document for v, document in zip(versions, documents, strict=True))
    assert state.read() == documents[-1]
    assert state.verify().ok


def test_stock_git_finds_all_of_it_whole(replayed, documents, git):
    repository = f"--git-dir={PipelineState(replayed).git_dir}"

    assert git(repository, "fsck", "--strict", "--no-progress") == ""
    assert git(repository, "rev-list", "--count", "HEAD") == f"{VERSIONS}\n"
    shown = git(repository, "show", f"HEAD~{VERSIONS // 2}:pipeline.json")
    assert json.loads(shown) == documents[VERSIONS - 1 - VERSIONS // 2]


def test_the_benchmark_comes_to_its_end_and_finds_nothing_wrong(documents):
    done = subprocess.run(
        [sys.executable, SCRIPT, DATA, "--versions", "160"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert "50 of 50 sampled versions read back equal" in done.stdout
    assert "50-150" in done.stdout


def test_the_benchmark_without_its_data_is_bad_usage(tmp_path):
    missing = tmp_path / "none.xz"

    done = subprocess.run(
        [sys.executable, SCRIPT, missing], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert f"no such file: {missing}" in done.stderr
