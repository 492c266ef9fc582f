"""verify, repair, prune, checkpoint: what they find, and what they change."""

import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest
from command import COMMAND, environment, read_until, refused, run

from gitstate import PipelineState


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state of five versions in a pack, the second of which is called `second`."""
    with PipelineState(tmp_path / "pipeline.json") as state:
        for number in range(1, 6):
            state.write({"number": number})
            if number == 2:
                state.create_backup("second")
    return tmp_path


def damage(folder: Path) -> None:
    """Writes zeros into the pack."""
    (pack,) = (folder / ".pipeline" / "repo" / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    content = pack.read_bytes()
    pack.write_bytes(content[:60] + bytes(100) + content[160:])


def versions(folder: Path) -> list[int]:
    """The numbers of the versions that are kept, newest first."""
    return [version.serial for version in PipelineState(folder / "pipeline.json").log()]


def test_verify_says_that_all_is_well_and_what_is_not(folder):
    assert run("verify", cwd=folder).out == "ok: 5 versions, whole\n"

    (folder / "pipeline.json").write_text('{"number": 7}')
    done = run("verify", cwd=folder)
    assert done.out == "ok: 5 versions, whole\n"
    assert "was edited since: gitstate backup" in done.err
    found = run("verify", "--json", cwd=folder).document
    assert found == {"ok": True, "edited": True, "versions": 5, "problems": []}

    damage(folder)
    done = run("verify", "--json", cwd=folder, check=False)
    assert done.status == done.error["status"] == 15
    assert (done.document["ok"], done.document["edited"]) == (False, True)
    done = run("verify", cwd=folder, check=False)
    assert done.status == 15
    assert "a pack is damaged" in done.out
    assert "state.verify()" not in done.out
    assert "gitstate repair" in done.err


def test_repair_takes_from_a_clone_what_is_lost_here(folder):
    shutil.copytree(folder / ".pipeline" / "repo", folder / "clone")
    damage(folder)

    assert "a pack is damaged" in run("repair", "--dry-run", cwd=folder).out
    assert "--yes" in refused(2, "repair", cwd=folder)
    assert not (folder / ".pipeline" / "quarantine").exists()

    lines = run("repair", "--from", "clone", cwd=folder).out.splitlines()
    assert {line.split()[0] for line in lines} == {"mended", "kept"}
    assert PipelineState(folder / "pipeline.json").verify().ok
    assert versions(folder) == [5, 4, 3, 2, 1]


def test_a_repair_without_a_clone_says_what_is_lost(folder):
    damage(folder)

    done = run("repair", "--yes", "--json", cwd=folder, check=False)

    assert done.status == 1
    assert done.error["code"] == "lost"
    assert done.document["ok"] is False
    assert set(done.document) == set(run("repair", "--dry-run", "--json", cwd=folder).document)
    assert done.document["problems"]
    assert done.document["mended"]
    assert done.document["lost"]
    assert Path(done.document["quarantined"][0].rpartition(": ")[2]).is_dir()
    assert PipelineState(folder / "pipeline.json").read() == {"number": 5}


def test_a_repair_of_nothing_is_no_success(tmp_path):
    assert "gitstate init" in refused(10, "repair", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_prune_asks_before_it_forgets_and_a_dry_run_changes_nothing(folder):
    assert run("prune", "--keep", "1", "--dry-run", cwd=folder).out == (
        "versions 1 to 3 but for second would be forgotten\n"
    )
    assert "--yes" in refused(2, "prune", "--keep", "1", cwd=folder)
    assert versions(folder) == [5, 4, 3, 2, 1]

    report = run("prune", "--keep", "1", "--yes", "--json", cwd=folder).document
    assert (report["first"], report["last"], report["kept"]) == (1, 3, ["second"])
    assert report["freed"] > 0
    assert versions(folder) == [5, 4]


def test_a_prune_forgets_no_more_than_it_has_asked_about(folder):
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "prune", "--keep", "2"],
        cwd=folder,
        env=environment(),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    ) as process:
        os.close(slave)
        assert b"Forget versions 1 to 2" in read_until(b"[y/N]", master)
        for number in range(6, 9):
            PipelineState(folder / "pipeline.json").write({"number": number})
        os.write(master, b"y\n")
        read_until(b"versions 1 to 2 but for second forgotten", master)
        assert process.wait(60) == 0
    os.close(master)

    assert versions(folder) == [8, 7, 6, 5, 4, 3]


def test_a_checkpoint_packs_the_history(folder):
    state = PipelineState(folder / "pipeline.json")
    state.write({"number": 6})
    packs = state.git_dir / "objects" / "pack"
    before = set(packs.iterdir())

    assert "would be packed" in run("checkpoint", "--dry-run", cwd=folder).out
    assert set(packs.iterdir()) == before
    assert "packed" in run("checkpoint", cwd=folder).err
    assert set(packs.iterdir()) != before
    assert versions(folder) == [6, 5, 4, 3, 2, 1]
