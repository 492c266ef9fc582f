"""Real power cuts: an ext4 of our own is shut down under a writer, as its driver does it, and mounted again.

Root only: a filesystem has to be made and mounted. Source: ioctl_ext4(2), EXT4_IOC_SHUTDOWN; with
EXT4_GOING_FLAGS_NOLOGFLUSH nothing reaches the disk any more, not even the journal of the filesystem.
"""

from __future__ import annotations

import array
import fcntl
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from oracle import Tally, Tell, fork, fresh, judge

from gitstate import PipelineState

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
CUTS, LONG_CUTS = 50, 2_000
CUTS_OF_ONE_DISK = 10
MEGABYTE = 1024 * 1024


def _run(*command: str | os.PathLike[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def _mounted(image: Path, place: Path) -> Iterator[None]:
    _run("mount", "-o", "loop", image, place)
    try:
        yield
    finally:
        _run("umount", place)


@pytest.fixture
def new_disk(tmp_path: Path) -> Callable[[], tuple[Path, Path]]:
    """Makes an empty ext4, and gives its image and the folder to mount it at; skips where that cannot be done."""
    image, place = tmp_path / "disk", tmp_path / "mounted"
    place.mkdir()

    def make() -> tuple[Path, Path]:
        image.write_bytes(b"")
        os.truncate(image, 64 * MEGABYTE)
        _run("mkfs.ext4", "-q", "-F", image)
        return image, place

    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount a filesystem")
    if not shutil.which("mkfs.ext4"):
        pytest.skip("there is no mkfs.ext4")
    try:
        with _mounted(*make()):
            pass
    except subprocess.CalledProcessError as error:
        pytest.skip(f"an ext4 cannot be mounted here: {error.stderr.decode().strip()}")
    return make


def _write_for_ever(path: Path, checkpoints: bool) -> Callable[[Tell], None]:
    def work(tell: Tell) -> None:
        state = PipelineState(path, max_backups=None)
        while True:
            with state.transaction() as txn:
                txn.data["n"] = txn.data.get("n", 0) + 1
                txn.data["text"] = "x" * (txn.data["n"] * 997 % 9000)
            assert txn.version is not None
            tell((txn.version.id, txn.data["n"]))
            if checkpoints and txn.data["n"] % 7 == 0:
                state.checkpoint()

    return work


def test_nothing_acknowledged_is_lost_in_a_power_cut(
    new_disk: Callable[[], tuple[Path, Path]],
    seed: str,
    scale: Callable[[int, int], int],
    tally: Tally,
) -> None:
    chance = random.Random(seed)
    promised: dict[str, int] = {}
    acknowledged = 0
    cuts = scale(CUTS, LONG_CUTS)
    for cut in range(cuts):
        if cut % CUTS_OF_ONE_DISK == 0:
            image, place = new_disk()
            promised.clear()
        path = place / "pipeline.json"
        with _mounted(image, place):
            writer = fork(_write_for_ever(path, checkpoints=chance.random() < 0.5))
            writer.await_line()
            time.sleep(chance.uniform(0, 0.1))
            _cut_power(place)
            writer.kill()
            made = [told for told in writer.told() if isinstance(told, list)]
            promised.update((version, number) for version, number in made)
            acknowledged += len(made)
        with _mounted(image, place):
            # In a process of its own: what it leaves open would keep the disk mounted.
            found = dict(fork(_judged(path, cut)).finish()[-1])
            lost = promised.items() - found.items()
            assert not lost, f"cut {cut}: {lost}"
    tally("power cuts of a mounted ext4", cuts)
    tally("transactions acknowledged before a power cut", acknowledged)


def _judged(path: Path, cut: int) -> Callable[[Tell], None]:
    def work(tell: Tell) -> None:
        judge(path, [], None, first=("read", "log", "backup")[cut % 3], then="recover")
        state = fresh(path)
        tell([(version.id, version.read()["n"]) for version in state.log()])

    return work


def _cut_power(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, array.array("I", [NO_LOG_FLUSH]))
    finally:
        os.close(descriptor)
