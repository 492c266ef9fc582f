"""What the commands of README.md say: played in a folder of their own, and held against what stands there.

    python tests/recorded.py

writes into README.md what they say now.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from command import environment, installed

README = Path(__file__).resolve().parents[1] / "README.md"
_BLOCK = re.compile(r"(^```console\n)(.*?)(^```$)", re.MULTILINE | re.DOTALL)
_SHOWN = "/home/you/hour"
"""Where a reader is thought to try it."""

_VARIES = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.+]*Z?"), "MOMENT"),
    (re.compile(r"\b[0-9a-f]{40}\b|\b[0-9a-f]{7}\b"), "HASH"),
    (
        re.compile(r"\bnow\b|\b[\d.]+ (?:ms|s|min)(?: ago)?(?![\w.])|(?<=\"duration\": )[\d.]+"),
        "TIME",
    ),
    (re.compile(r" {2,}"), " "),
)
_SURE = 40
"""Characters of a line that is cut at the width which are sure to be the same."""


def first_program() -> str:
    """The program that README has for `first.py`."""
    found = re.search(
        r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return found[1]


def blocks() -> list[str]:
    """What README shows of a terminal: commands behind `$ `, and what they say."""
    return [match[2] for match in _BLOCK.finditer(README.read_text("utf-8"))]


def commands(block: str) -> list[str]:
    """The commands of a block."""
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


def play(folder: Path) -> Iterator[str]:
    """Each block anew, with what its commands say in `folder`, one after the other."""
    (folder / "first.py").write_text(first_program())
    path = os.pathsep.join([os.fspath(installed(folder.parent)), os.environ["PATH"]])
    variables = environment(PATH=path, COLUMNS="80", USER="you", LOGNAME="you")
    for block in blocks():
        said = []
        for command in commands(block):
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=folder,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=60,
            )
            text = done.stdout.replace(os.fspath(folder), _SHOWN)
            lines = (line.rstrip() for line in text.splitlines())
            said.append("".join(f"{line}\n" for line in (f"$ {command}", *lines)))
        yield "".join(said)


def masked(block: str) -> list[str]:
    """The lines of a block, without what differs from one time to the next."""
    lines = block.splitlines()
    for varies, name in _VARIES:
        lines = [varies.sub(name, line) for line in lines]
    return [line[:_SURE] if line.endswith("…") else line for line in lines]


def main() -> None:
    """Writes it down."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "hour"
        folder.mkdir()
        played = play(folder)
        text = README.read_text("utf-8")
        README.write_text(_BLOCK.sub(lambda match: match[1] + next(played) + match[3], text))


if __name__ == "__main__":
    main()
