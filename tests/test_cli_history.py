"""The verb history, and the drawings that it has in common with others."""

import io

from gitstate.cli.plot import bars


def test_a_bar_is_as_long_as_its_value(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "utf-8"))

    assert bars([8, 4, 1, 0.01, 0], 2) == ["██", "█", "▎", "▏", ""]
    assert bars([0, 0], 10) == ["", ""]
    assert bars([], 10) == []


def test_a_bar_is_of_ascii_where_there_is_nothing_else(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))

    assert bars([8, 4, 1, 0], 4) == ["####", "##", "#", ""]
