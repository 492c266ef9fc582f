"""Each precaution, taken out, is missed by a test: the proof that the durability suites can fail."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from mutants import MUTANTS
from oracle import Tally

SAMPLE = 1


def test_a_precaution_that_is_taken_out_is_missed(
    seed: str, scale: Callable[[int, int], int], tmp_path: Path, tally: Tally
) -> None:
    names = random.Random(seed).sample(list(MUTANTS), scale(SAMPLE, len(MUTANTS)))
    survivors = []
    for number, name in enumerate(names):
        caught = MUTANTS[name].caught(tmp_path / str(number), seed)
        print(f"{name}: {caught or 'NOT CAUGHT'}", flush=True)
        if caught is None:
            survivors.append(name)

    assert not survivors
    tally("precautions taken out and missed", len(names))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_precaution_is_where_the_table_says(name: str) -> None:
    mutant = MUTANTS[name]
    package = Path(__file__).parents[2] / "gitstate"

    assert (package / mutant.module).read_text().count(mutant.old) == 1
