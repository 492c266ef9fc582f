"""The benchmark against peers comes to its end and says what it measured, what it left out, and why."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"
SECTIONS = [
    "Transactions, 1 KB",
    "Transactions, 10 KB",
    "Writers, 10 KB",
    "Reads, 1 KB",
    "Reads, 10 KB",
    "New processes, 43 KB",
    "Memory, 10 KB",
    "What it is to reach",
]
ALWAYS = {
    "the floor",
    "parse, encode, SHA-1, floor",
    "gitstate",
    "gitstate, no schema",
    "SQLite + file",
    "dulwich porcelain",
}
SVG = "{http://www.w3.org/2000/svg}svg"
EXTRAS = {"diskcache": "diskcache", "pygit2": "pygit2", "AcidFS": "acidfs"}


def run(folder: Path, *arguments: str | Path) -> str:
    """What a benchmark prints where neither TinyDB nor matplotlib can be imported."""
    for name in ("tinydb", "matplotlib"):
        (folder / f"{name}.py").write_text("raise ImportError")
    done = subprocess.run(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(folder)},
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """What the program has printed, and the figures it has written."""
    folder = tmp_path_factory.mktemp("compare")
    sizes = ("--sizes", "1,10", "--blocks", "1", "--seconds", "0.1")
    files = ("--json", folder / "figures.json", "--chart", folder / "chart.svg")
    said = run(folder, BENCHMARKS / "compare.py", "--directory", folder.parent, *sizes, *files)
    return said, folder


def test_the_table_has_its_sections_in_order(compared):
    said, _ = compared

    titles = [line for line in said.splitlines() if line.startswith(tuple(SECTIONS))]

    assert [
        section
        for section, title in zip(SECTIONS, titles, strict=True)
        if title.startswith(section)
    ] == SECTIONS
    assert max(map(len, said.splitlines())) <= 100


def test_what_is_not_installed_is_left_out_by_name(compared):
    said, folder = compared
    figures = json.loads((folder / "figures.json").read_text())

    measured = figures["transactions"]["1"].keys()

    assert "left out: TinyDB: tinydb is not installed" in said
    assert "left out: the chart: it needs matplotlib" in said
    assert not (folder / "chart.svg").exists()
    assert measured >= ALWAYS
    assert "TinyDB" not in measured
    assert {name for name, module in EXTRAS.items() if not find_spec(module)} <= figures[
        "left_out"
    ].keys()
    assert measured.isdisjoint(figures["left_out"])


def test_the_file_has_all_figures(compared):
    _, folder = compared
    figures = json.loads((folder / "figures.json").read_text())

    ours = figures["transactions"]["10"]["gitstate"]

    assert figures.keys() == {
        "machine", "blocks", "left_out", "transactions", "writers", "reads", "cold_start", "memory", "targets",
    }  # fmt: skip
    assert figures["machine"].keys() == {"python", "system", "filesystem", "cores", "versions"}
    assert ours.keys() == {"median", "p99", "calls", "turns", "ratio"}
    assert ours["ratio"].keys() == {"middle", "lowest", "highest"}
    assert figures["writers"].keys() == {"1", "2", "8", "32"}
    assert figures["memory"].keys() == {"default", "none"}
    assert {row["holds"] for row in figures["targets"] if row["found"] is None} == {None}


def test_every_target_is_said_measured_or_not(compared):
    said, folder = compared
    figures = json.loads((folder / "figures.json").read_text())

    rows = said.partition("What it is to reach")[2].splitlines()[1 : len(figures["targets"]) + 1]

    for row, target in zip(rows, figures["targets"], strict=True):
        assert row.startswith(f"  {target['what']}")


def test_the_chart_is_drawn_again_from_the_figures_or_says_what_it_needs(compared, tmp_path):
    _, folder = compared
    charts = [tmp_path / "one.svg", tmp_path / "two.svg"]

    done = [
        subprocess.run(
            [sys.executable, BENCHMARKS / "chart.py", folder / "figures.json", chart],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        for chart in charts
    ]

    if find_spec("matplotlib"):
        assert ET.parse(charts[0]).getroot().tag == SVG
        assert charts[0].read_bytes() == charts[1].read_bytes()
    else:
        assert all("it needs matplotlib" in each.stderr for each in done)


def test_the_chart_of_the_readme_is_drawn_from_the_figures_beside_it():
    root = ET.parse(BENCHMARKS / "speed.svg").getroot()
    shown = Counter(text.strip() for text in root.itertext())

    measured = json.loads((BENCHMARKS / "speed.json").read_text())["transactions"]

    assert root.tag == SVG
    bars = [
        (name, f"{row['ratio']['middle']:.2g}")
        for rows in measured.values()
        for name, row in rows.items()
        if name != "the floor"
    ]
    assert {name for name, _ in bars} <= set(shown)
    assert Counter(value for _, value in bars) <= shown


def test_the_table_of_the_readme_has_the_figures_beside_the_chart():
    rows = json.loads((BENCHMARKS / "speed.json").read_text())["targets"]
    measured = [list(row["found"].values()) for row in rows if row["found"]]
    readme = (BENCHMARKS.parents[1] / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| figure | found |")[2].partition("\n\n")[0].splitlines()[2:]

    shown = [re.findall(r"[\d.]+", "|".join(line.split("|")[2:4])) for line in table]

    assert len(shown) > 10
    for figures in shown:
        digits = len(figures[0].partition(".")[2])
        rounded = [[f"{each:.{digits}f}" for each in found] for found in measured]
        assert figures in rounded
