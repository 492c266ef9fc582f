"""The verb history, and the drawings that it has in common with others."""

import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from command import refused, run

from gitstate import PipelineState, StateValidationError
from gitstate.cli.drawing import plot, scale
from gitstate.cli.drawing.series import Point

SVG = "{http://www.w3.org/2000/svg}"
BEGIN = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state of five versions, of which two are pruned, and a failure behind the third."""
    with PipelineState(tmp_path / "pipeline.json", max_backups=2) as state:
        for number in range(5):
            state.write({"pad": "x" * 1000 * number, "n": number}, operation=f"step{number % 2}")
            if number == 2:
                with pytest.raises(StateValidationError), state.transaction(operation="bad") as txn:
                    txn.data["phase1"] = "\x1b[31mred"
    return tmp_path


def test_history_shows_what_was_done_and_what_failed_newest_first(folder):
    said = run("history", cwd=folder).out.splitlines()

    assert [re.split(r" {2,}", line)[1] for line in said] == [
        *("step0", "step1", "bad", "step0", "step1", "step0")
    ]
    assert said[0].endswith("pad, n")
    assert "failed   validation: StateValidationError: against the schema" in said[2]
    assert "\x1b" not in said[2]
    head = PipelineState(folder / "pipeline.json").version("HEAD")
    assert head.short_id in said[0]
    exact = run("history", "-v", "-n", "1", cwd=folder)
    assert " pid " in exact.out
    assert exact.out.startswith(head.timestamp.astimezone().strftime("%Y-%m-%d %H:%M:"))
    assert exact.err == "there is more: -n 4, or -n all\n"
    narrow = run("history", "--color=always", cwd=folder, env={"COLUMNS": "60"}).out
    assert "\x1b[31mfailed" in narrow
    assert len(narrow.splitlines()) == len(said)


def test_history_is_json_lines_for_programs(folder):
    lines = run("history", "--json", cwd=folder).lines
    expected = PipelineState(folder / "pipeline.json").get_transaction_history(None)

    assert [line["commit"] for line in lines] == [line["commit"] for line in expected]
    assert [line["details"] for line in lines] == [line["details"] for line in expected]
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert run("history", "--json", "-n", "2", cwd=folder).lines == lines[:2]


def test_what_history_shows_can_be_chosen(folder):
    lines = run("history", "--json", "-n", "all", cwd=folder).lines
    failure = lines[2]

    assert run("history", "--json", "--failures", cwd=folder).lines == [failure]
    chosen = run("history", "--json", "--operation", "step1", "-n", "1", cwd=folder).lines
    assert chosen == [lines[1]]
    since = run("history", "--json", "--since", failure["timestamp"], cwd=folder).lines
    assert since == lines[:3]
    done = run("history", "--operation", "nothing", cwd=folder)
    assert done.out == ""
    assert done.err == "nothing of that kind was done\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-n", "0"], "'0' is neither a number, 1 or more, nor all"),
        (["--since", "yesterdayish"], "names no moment"),
        (["--failures", "--plot"], "--failures goes without"),
        (["--svg", "pipeline.json"], "called *.svg"),
        (["--svg", "-", "--json"], "only one of them"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, said, folder):
    before = (folder / "pipeline.json").read_bytes()

    done = run("history", *arguments, cwd=folder, check=False)
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert (folder / "pipeline.json").read_bytes() == before


def test_the_versions_are_drawn(folder):
    said = run("history", "--plot", cwd=folder).out.splitlines()

    assert said[0] == "size of the state"
    assert said[1].startswith("6.0 KB ┤")
    assert said[-1].split() == ["version", "3", "5"]
    assert all(len(line) <= 80 for line in said)
    assert len(said) <= 23
    plain = run("history", "--plot", "-n", "1", cwd=folder, env={"PYTHONIOENCODING": "ascii"}).out
    assert "##" in plain
    assert plain.isascii()


def test_what_is_drawn_is_a_document_for_programs(folder):
    found = run("history", "--plot", "--json", cwd=folder).document["versions"]
    log = list(PipelineState(folder / "pipeline.json").log())[::-1]

    assert [each["id"] for each in found] == [version.id for version in log]
    assert [each["size"] for each in found] == [len(version.content()) for version in log]
    assert found[0]["seconds"] is None  # the one before it is pruned
    assert found[1]["seconds"] == (log[1].timestamp - log[0].timestamp).total_seconds()
    chosen = run("history", "--plot", "--json", "--operation", "step1", cwd=folder).document
    assert chosen["versions"] == [found[1]]


def test_the_drawing_is_an_svg_that_says_what_it_shows(folder):
    odd = folder / "a&<b.json"
    PipelineState(odd, schema=None).write({"a": 1})

    done = run("history", "--svg", "h.svg", cwd=folder)
    svg = ET.parse(folder / "h.svg").getroot()
    assert done.out == ""
    assert done.err == "drew 3 versions: h.svg\n"
    assert run("history", "--svg", "1.svg", "-n", "1", cwd=folder).err == "drew 1 version: 1.svg\n"
    assert svg.get("role") == "img"
    assert svg.find(f"{SVG}title").text == "pipeline.json: versions 3 to 5"
    assert "between 2.0 KB and 4.0 KB" in svg.find(f"{SVG}desc").text
    dots = [each.find(f"{SVG}title").text for each in svg.iter(f"{SVG}circle")]
    assert "version 5: 4.0 KB" in dots
    assert len(dots) == 5  # three sizes, two durations
    written = run("-C", odd, "history", "--svg", "-", cwd=folder).out
    assert "a&<b.json" in ET.fromstring(written).find(f"{SVG}title").text
    said = refused(1, "history", "--svg", "nowhere/h.svg", cwd=folder)
    assert said.startswith("error: cannot write the drawing: No such file or directory: nowhere/h")


def test_a_drawing_that_is_there_is_replaced_by_whoever_says_so(folder):
    drawing = folder / "h.svg"
    drawing.write_text("another")
    linked = folder / "linked.svg"
    linked.hardlink_to(drawing)

    assert "--force" in refused(1, "history", "--svg", "h.svg", cwd=folder)
    assert drawing.read_text() == "another"
    run("history", "--svg", "h.svg", "--force", cwd=folder)
    assert drawing.read_text().startswith("<svg")
    assert linked.read_text() == "another"  # it was not written over in place


def test_a_drawing_is_no_part_of_a_state(folder):
    drawn = folder / "drawn.svg"
    PipelineState(drawn, schema=None).write({"a": 1})
    (folder / "link.svg").symlink_to("drawn.svg")

    for svg in ("drawn.svg", "link.svg", ".pipeline/repo/drawn.svg"):
        said = refused(2, "-C", drawn, "history", "--svg", svg, "--force", cwd=folder)
        assert "itself" in said
    assert json.loads(drawn.read_text()) == {"a": 1}


@pytest.mark.parametrize(
    ("success", "details", "shown"),
    [
        (True, {"changed_keys": ["a", 1, None]}, "a, 1, null"),
        (True, {"changed_keys": "all"}, "all"),
        (True, "no object", "none"),
        (False, {"error": {"code": 5}, "reason": None}, 'null: {"code": 5}'),
    ],
)
def test_what_another_manager_wrote_into_its_log_is_shown(success, details, shown, folder):
    line = {"timestamp": "2025-03-01T12:00:00", "operation": "old", "success": success}
    (folder / ".pipeline" / "transactions.log").write_text(json.dumps({**line, "details": details}))
    PipelineState(folder / "pipeline.json").import_backups()

    assert run("history", "--operation", "old", cwd=folder).out.rstrip().endswith(shown)
    document = run("history", "--operation", "old", "--json", cwd=folder).document["details"]
    assert isinstance(document, dict)
    assert all(isinstance(each, str) for each in document.get("changed_keys", []))


# -- in this process -----------------------------------------------------------------------------------------------------


@pytest.fixture
def utf8(monkeypatch):
    """An output that has block characters."""
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "utf-8"))


def points(*values: tuple[int, float | None]) -> list[Point]:
    return [
        Point(number, f"{number:040x}", BEGIN + timedelta(hours=number), size, seconds)
        for number, (size, seconds) in enumerate(values, 1)
    ]


@pytest.mark.usefixtures("utf8")
def test_a_bar_is_as_long_as_its_value():
    assert plot.bars([8, 4, 1, 0.01, 0], 2) == ["██", "█", "▎", "▏", ""]
    assert plot.bars([0, 0], 10) == ["", ""]
    assert plot.bars([], 10) == []


def test_a_bar_is_of_ascii_where_there_is_nothing_else(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))

    assert plot.bars([8, 4, 1, 0], 4) == ["####", "##", "#", ""]


@pytest.mark.usefixtures("utf8")
def test_a_column_is_as_high_as_its_greatest_version():
    lines = list(plot.panels(points((40, None), (20, 0.01), (1, 1.0)), 15))

    assert lines[1:10] == [
        "40 B ┤███",
        *["     │███"] * 3,
        "20 B ┤██████",
        *["     │██████"] * 2,
        "     │██████▂▂▂",
        " 0 B └─────────",
    ]
    many = list(plot.panels(points(*[(1, None)] * 1000, (4000, 5.0)), 50))
    assert all(len(line) <= 50 for line in many)
    assert many[1].endswith("█")


@pytest.mark.parametrize("sizes", [[2], [3, 4], [9999, 10_000], [280_123], [5 * 10**9]])
def test_an_axis_of_sizes_ends_at_a_round_number_above_all_of_them(sizes):
    axis = scale.of_sizes(sizes)

    assert axis.ticks[0] == (0, "0 B")
    assert max(sizes) <= axis.ticks[-1][0] <= max(4, 2 * max(sizes))
    assert 0 < axis.share(sizes[0]) <= 1


@pytest.mark.parametrize("seconds", [[], [0.0], [1e-9, 1e12], [1e12], [0.5], [1.0], [59, 61]])
def test_an_axis_of_durations_goes_from_below_the_shortest_to_above_the_longest(seconds):
    axis = scale.of_durations(seconds)
    marks = [mark for mark, _ in axis.ticks]

    assert marks == sorted(set(marks))
    assert len(marks) >= 2
    assert all(0 <= axis.share(each) <= 1 for each in seconds)
    if seconds == [59, 61]:
        assert [label for _, label in axis.ticks] == ["10 s", "1 min", "10 min"]
