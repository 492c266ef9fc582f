"""Draws what `compare.py` has found: a transaction of each peer as a multiple of the floor, a panel for each size.

    python tests/benchmarks/chart.py FIGURES.json CHART.svg

The same figures make the same bytes. It needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sections import FLOOR
from targets import named

COLUMNS = 3
OURS_COLOUR, THEIRS_COLOUR = "#1a7f37", "#afb8c1"
SETTINGS = {"svg.hashsalt": "gitstate", "svg.fonttype": "none", "font.family": "sans-serif"}


def draw(figures: dict[str, Any], path: Path) -> None:
    """Writes the chart as SVG; `figures` is what the JSON file of `compare.py` holds.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    sizes = figures["transactions"]
    peers = list(dict.fromkeys(name for size in sizes.values() for name in size if name != FLOOR))
    columns = min(COLUMNS, len(sizes))
    rows = -(-len(sizes) // columns)
    # 800 pixels wide where a page shows it in its own size, at 96 of them an inch.
    with mpl.rc_context(SETTINGS):
        chart = Figure(
            figsize=(8.33, 0.8 + 2.4 * rows),
            facecolor="white",
            layout="constrained",
        )
        panels = chart.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for panel, (size, found) in zip(panels.flat, sizes.items(), strict=False):
            bars(panel, peers, {name: found[name]["ratio"]["middle"] for name in found})
            panel.set_title(named(int(size)), fontsize=10, loc="left")
        for panel in panels.flat[len(sizes) :]:
            panel.set_visible(False)
        facts = figures["machine"]
        chart.suptitle(
            "A transaction, as a multiple of a durable replace of the same bytes (logarithmic)",
            fontsize=11,
        )
        chart.supxlabel(
            f"Python {facts['python']}, {facts['filesystem']}, {facts['cores']} cores", fontsize=9
        )
        chart.savefig(path, format="svg", metadata={"Date": None})


def bars(panel: Any, peers: list[str], ratios: dict[str, float]) -> None:
    """One bar for each peer, from the floor on, and its value at the end; none for who was not measured."""
    for row, name in enumerate(peers):
        if name in ratios:
            value = ratios[name]
            colour = OURS_COLOUR if name.startswith("gitstate") else THEIRS_COLOUR
            panel.barh(row, value - 1, left=1, color=colour, height=0.72)
            side, place = ("left", value * 1.15) if value > 1 else ("right", value / 1.15)
            panel.text(place, row, f"{value:.2g}", va="center", ha=side, fontsize=8)
    panel.axvline(1, color="black", linewidth=0.8)
    panel.set_xscale("log")
    panel.set_xticks([0.1, 1, 10], ["0.1", "1", "10"], fontsize=8)
    panel.set_xlim(0.002, 150)
    panel.set_yticks(range(len(peers)), peers, fontsize=8)
    panel.set_ylim(len(peers) - 0.4, -0.6)
    panel.minorticks_off()
    panel.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Reads the figures and draws them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", type=Path)
    parser.add_argument("chart", type=Path)
    arguments = parser.parse_args()
    figures = json.loads(arguments.figures.read_text(encoding="utf-8"))
    try:
        draw(figures, arguments.chart)
    except ImportError:
        parser.error("it needs matplotlib: pip install 'gitstate[bench]'")


if __name__ == "__main__":
    main()
