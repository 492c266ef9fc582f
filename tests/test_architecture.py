"""Architecture: a module imports only from rows above its own, lazy and TYPE_CHECKING imports included."""

import ast
import functools
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import gitstate

PACKAGE = Path(gitstate.__file__).parent

ROWS = [
    {"errors", "pointer", "trailers", "difference", "finding", "first_use", "due", "progress"},
    {"codec", "diff", "files", "flock", "patch"},
    {"schema", "queue", "legacy", "generations", "part", "record", "remotes"},
    {"large"},
    {"journal", "lock", "repository", "swap"},
    {"draft", "held", "jsonl", "layout", "ledger"},
    {"policy", "effects", "chain", "audit", "imports", "names", "hooks"},
    {"boundary", "checkpoint", "reader", "recovery", "statefile"},
    {"store"},
    {"registry", "trail", "verify", "version"},
    {"writer"},
    {"history", "transaction", "retention", "importer", "repair", "sync"},
    {"restore", "export"},
    {"parts"},
    {"exchange", "synced", "upkeep"},
    {"state"},
    {"__init__"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
"""From what everything rests on to what users hold; a module may import only from rows before its own."""

ROW = {name: number for number, row in enumerate(ROWS) for name in row}

PUBLIC = [
    "MISSING",
    "Change",
    "Holder",
    "ImportReport",
    "PipelineSchema",
    "PipelineState",
    "Problem",
    "Progress",
    "PruneReport",
    "PullResult",
    "PushResult",
    "RefUpdate",
    "Remote",
    "RemoteStatus",
    "RepairReport",
    "RerootReport",
    "StateConflictError",
    "StateError",
    "StateLockError",
    "StateReadError",
    "StateRemoteError",
    "StateTransaction",
    "StateTransactionError",
    "StateValidationError",
    "StateWriteError",
    "VerifyReport",
    "Version",
    "VersionNotFoundError",
    "VersionPrunedError",
]

MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The row's name for a module: its own, or that of the package it is in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


NAMES = {name_of(path): path for path in MODULES}


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """All that a module is made of."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported(path: Path) -> Iterator[str]:
    """The dotted name of everything that a module imports anywhere in it, `from x import y` as `x.y`."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively, which hides where from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def imported_modules(path: Path) -> set[Path]:
    """The modules of the package that a module imports."""
    found = set()
    for name in imported(path):
        # `from gitstate.codec import encode` is module gitstate.codec, `from gitstate import codec` too.
        module = name if name in NAMES else name.rpartition(".")[0]
        if module in NAMES:
            found.add(NAMES[module])
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_rows_above_its_own(path):
    own = ROW[part_of(path)]

    upward = {
        name_of(target)
        for target in imported_modules(path)
        if ROW[part_of(target)] >= own and part_of(target) != part_of(path)
    }

    assert not upward


def test_the_table_lists_every_module_once():
    parts = {part_of(path) for path in MODULES}

    assert parts == set(ROW)
    assert sum(map(len, ROWS)) == len(ROW)


def test_the_table_has_no_row_too_many():
    # Of any two neighbouring rows one needs the other, else they would be one row.
    edges = {
        (part_of(path), part_of(target)) for path in MODULES for target in imported_modules(path)
    }
    present = {part_of(path) for path in MODULES}
    rows = [row & present for row in ROWS if row & present]

    for above, below in pairwise(rows):
        assert any((user, used) in edges for user in below for used in above)


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent != PACKAGE], ids=name_of)
def test_inside_a_package_no_module_imports_in_a_circle(path):
    seen: set[Path] = set()
    todo = {target for target in imported_modules(path) if target.parent == path.parent}
    while todo:
        target = todo.pop()
        seen.add(target)
        todo |= {t for t in imported_modules(target) if t.parent == path.parent} - seen

    assert path not in seen


def uses(path: Path, *names: str) -> set[str]:
    """Which of `names` a module mentions, as a name, an attribute, an import or a string."""
    found = set()
    for node in nodes(path):
        mentioned = (
            getattr(node, "id", None),
            getattr(node, "attr", None),
            getattr(node, "name", None),
            node.value if isinstance(node, ast.Constant) else None,
        )
        found.update(name for name in names if name in mentioned)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_one_module_flushes(path):
    flushing = uses(path, "fsync", "fdatasync", "sync", "syncfs", "sync_file_range")

    assert bool(flushing) == (name_of(path) == "gitstate.files")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_repository_and_who_speaks_to_servers_know_dulwich(path):
    knows = any(name.split(".")[0] == "dulwich" for name in imported(path))

    assert not knows or part_of(path) in {"repository", "sync"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_one_module_knows_filelock(path):
    knows = any(name.split(".")[0] == "filelock" for name in imported(path))

    assert knows == (name_of(path) == "gitstate.flock")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_expensive_part_of_dulwich_is_never_imported(path):
    assert not any(name.startswith("dulwich.porcelain") for name in imported(path))


@pytest.mark.parametrize("name", ["codec", "diff", "patch", "pointer", "trailers", "schema"])
def test_what_is_pure_touches_no_file_clock_or_lock(name):
    paths = [path for path in MODULES if part_of(path) == name]
    forbidden = {
        "os",
        "io",
        "pathlib",
        "time",
        "threading",
        "shutil",
        "tempfile",
        "logging",
        "subprocess",
    }

    for path in paths:
        assert not {name.split(".")[0] for name in imported(path)} & forbidden
        assert not uses(path, "open", "now", "utcnow", "print")


def test_the_public_surface_is_this_list():
    assert gitstate.__all__ == PUBLIC
    assert all(hasattr(gitstate, name) for name in PUBLIC)
    assert sorted(PUBLIC, key=lambda name: (not name.isupper(), name)) == PUBLIC
