"""Whatever a power cut leaves of a workload, or of the recovery after it, is recovered: acknowledged versions are there.

The models are in disk.py, the programs that run before the power goes in workloads.py.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from disk import MODELS, Disk
from explorer import explore_all
from oracle import Tally
from recorder import Created, FlushedDirectory, FlushedFile, Renamed, Wrote
from workloads import WORKLOADS

pytestmark = pytest.mark.skipif(
    not (hasattr(os, "fork") and Path("/proc/self/fd").exists()),
    reason="processes are forked, and files found by /proc/self/fd",
)

# Of each workload.
STATES, RECOVERIES = 260, 40
STATES_OF_FIRST_WRITES = 880
"""That a first state file has lost its name, and nothing else has, is so rare that fewer states may miss it."""

LEAST_STATES = 200
"""What every workload has; the shortest have not many more."""

LONG_STATES, LONG_RECOVERIES = 13_000, 1_500


@pytest.mark.parametrize("name", WORKLOADS)
def test_whatever_a_power_cut_leaves_is_recovered(
    name: str, seed: str, scale: Callable[[int, int], int], tally: Tally
) -> None:
    short = STATES_OF_FIRST_WRITES if name.startswith("first_write") else STATES
    states = scale(short, LONG_STATES)

    found = explore_all(
        [name], states=states, recoveries=scale(RECOVERIES, LONG_RECOVERIES), seed=seed
    )

    judged, recoveries = found[name]
    tally("crash states", judged)
    tally("crash states of recoveries", recoveries)
    assert judged >= LEAST_STATES
    assert recoveries > 0


# -- the models ----------------------------------------------------------------------------------------------------

ROOT = "/disk"
OLD, NEW = b"a" * 10_000, b"b" * 10_000


def _written(*more: object) -> Disk:
    """A file with `OLD`, durable, and `NEW` written beside it; then `more`."""
    disk = Disk(ROOT)
    for event in (
        Created(f"{ROOT}/file", 1, 0o644),
        Wrote(1, 0, OLD, 1),
        FlushedFile(1, 1),
        FlushedDirectory(ROOT),
        Created(f"{ROOT}/temporary", 2, 0o644),
        Wrote(2, 0, NEW, 2),
        *more,
    ):
        disk.apply(event)  # type: ignore[arg-type]
    return disk


def _left(disk: Disk, model: str) -> set[bytes | None]:
    """What `file` may hold after a power cut, by many tries; None for no such file."""
    images = [disk.after_power_cut(model, random.Random(seed)) for seed in range(300)]
    return {image.files["file"][4] if "file" in image.files else None for image in images}


RENAMED = Renamed(f"{ROOT}/temporary", f"{ROOT}/file")


@pytest.mark.parametrize("model", MODELS)
def test_a_file_that_was_flushed_and_renamed_durably_is_never_anything_else(model: str) -> None:
    assert _left(_written(FlushedFile(2, 2), RENAMED, FlushedDirectory(ROOT)), model) == {NEW}


@pytest.mark.parametrize("model", ["strict", "ordered"])
def test_a_rename_that_was_not_flushed_may_be_lost(model: str) -> None:
    assert _left(_written(FlushedFile(2, 2), RENAMED), model) == {OLD, NEW}


@pytest.mark.parametrize("model", ["strict", "ordered"])
def test_bytes_that_were_not_flushed_may_be_lost_though_their_name_is_not(model: str) -> None:
    left = _left(_written(RENAMED, FlushedDirectory(ROOT)), model)

    assert {b"", NEW} <= left
    assert OLD not in left


def test_a_file_is_torn_by_blocks_where_nothing_more_is_promised() -> None:
    left = _left(_written(RENAMED, FlushedDirectory(ROOT)), "strict")

    assert NEW[:4096] + bytes(4096) + NEW[8192:] in left


def test_a_file_is_torn_by_sectors_and_filled_with_zeros() -> None:
    disk = _written(FlushedFile(2, 2), RENAMED, FlushedDirectory(ROOT), Wrote(2, 0, OLD[:1024], 3))

    left = _left(disk, "torn")

    assert OLD[:512] + NEW[512:] in left
    assert bytes(512) + OLD[512:1024] + NEW[1024:] in left


def test_ext4_keeps_the_order_of_names_and_strict_posix_does_not() -> None:
    made = [Created(f"{ROOT}/{name}", number, 0o644) for number, name in enumerate("xyz", 3)]
    orders = {}
    for model in ("strict", "ordered"):
        disk = _written(FlushedDirectory(ROOT), *made)
        images = [disk.after_power_cut(model, random.Random(seed)) for seed in range(300)]
        orders[model] = {"".join(name for name in "xyz" if name in each.files) for each in images}

    assert orders["ordered"] == {"", "x", "xy", "xyz"}
    assert orders["strict"] > orders["ordered"]
