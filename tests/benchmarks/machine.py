"""What figures depend on: the machine, its filesystem, and what is installed."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "acidfs",
    "diskcache",
    "dulwich",
    "filelock",
    "matplotlib",
    "pydantic",
    "pygit2",
    "tinydb",
)


def as_installed() -> dict[str, str]:
    """The environment for a new process that finds gitstate's modules compiled, as those of its libraries are."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def load_of_the_machine() -> str:
    """How many processes want to run, on how many cores."""
    average = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return f"load {average} on {os.cpu_count()} cores"


def filesystem(directory: Path) -> str:
    """The type of the filesystem, of ext4 also whether it has a journal; `unknown` where the system does not say."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "unknown"
    inside = directory.resolve()
    fields = [line.split(" ")[:3] for line in mounts.read_text().splitlines()]
    # Of two mounts at one place the later one is seen.
    above = [each for each in fields if inside.is_relative_to(each[1])]
    device, _, kind = max(reversed(above), key=lambda each: len(each[1]))
    if kind != "ext4":
        return kind
    name = Path(device).resolve().name
    journal = any(Path("/proc/fs/jbd2").glob(f"{name}-*"))
    return f"ext4 {'with' if journal else 'without'} a journal"


def versions() -> dict[str, str]:
    """Of what is installed of the peers and of what gitstate needs."""
    found = {"sqlite": sqlite3.sqlite_version}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    program = shutil.which("git")
    if program is not None:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        found["git"] = said.stdout.split()[2]
    return found


def facts(directory: Path) -> dict[str, object]:
    """All of it; nothing that tells whose machine it is."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "filesystem": filesystem(directory),
        "cores": os.cpu_count(),
        "versions": versions(),
    }
