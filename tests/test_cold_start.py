"""Cold start: what a new process imports, and when; and that nobody can tell that it was not there before."""

import ast
import copy
import inspect
import os
import pickle
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import pydantic
import pytest

import gitstate
from gitstate import PipelineState, StateValidationError

NOT_FOR_READING = (
    "dulwich",
    "filelock",
    "pydantic",
    "gitstate.diff",
    "gitstate.export",
    "gitstate.held",
    "gitstate.history",
    "gitstate.hooks",
    "gitstate.importer",
    "gitstate.legacy",
    "gitstate.repair",
    "gitstate.repository.bundle",
    "gitstate.repository.listing",
    "gitstate.repository.packs",
    "gitstate.restore",
    "gitstate.retention",
    "gitstate.schema",
    "gitstate.trail",
    "gitstate.transaction",
    "gitstate.verify",
)


def python(code: str, *arguments: str | Path) -> list[str]:
    """The lines that a new process says."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(os.fspath, arguments)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def written(path: Path) -> PipelineState:
    state = PipelineState(path)
    for number in range(3):
        state.write({"n": number})
    return state


def empty(path: Path) -> None:
    """Neither file nor history."""


def in_the_journal(path: Path) -> None:
    written(path)


def packed(path: Path) -> None:
    written(path).close()


def behind(path: Path) -> None:
    """As a writer leaves it that was killed before it moved the branch."""
    (written(path).git_dir / "refs/heads/main").unlink()


def edited(path: Path) -> None:
    written(path).close()
    path.write_bytes(b'{"n": 7}')


@pytest.mark.parametrize("before", [empty, in_the_journal, packed, edited])
def test_a_program_that_only_reads_imports_what_reading_takes(before, path):
    before(path)

    loaded = python(
        """
        import sys
        import gitstate
        gitstate.PipelineState(sys.argv[1]).read()
        print(*sys.modules, sep="\\n")
        """,
        path,
    )

    assert "gitstate.reader" in loaded
    assert not {name for name in loaded if name.startswith(tuple(f"{n}." for n in NOT_FOR_READING))}
    assert not set(loaded) & set(NOT_FOR_READING)


def test_a_summary_of_the_phases_needs_no_models(path):
    packed(path)

    loaded = python(
        """
        import sys
        import gitstate
        gitstate.PipelineState(sys.argv[1]).get_status_summary()
        print(*sys.modules, sep="\\n")
        """,
        path,
    )

    assert "gitstate.schema.summary" in loaded
    assert not set(loaded) & {"pydantic", "gitstate.schema.pipeline"}


def test_closing_a_handle_that_has_only_read_imports_no_more(path):
    packed(path)

    loaded = python(
        """
        import sys
        import gitstate
        with gitstate.PipelineState(sys.argv[1]) as state:
            state.read()
        print(*sys.modules, sep="\\n")
        """,
        path,
    )

    assert not set(loaded) & set(NOT_FOR_READING)


def test_every_public_name_is_there_when_it_is_asked_for():
    said = python(
        """
        import gitstate
        assert set(gitstate.__all__) <= set(dir(gitstate)), dir(gitstate)
        for name in gitstate.__all__:
            print(name, getattr(gitstate, name).__class__.__name__)
            assert name in vars(gitstate)
        """
    )

    assert [line.split()[0] for line in said] == gitstate.__all__


def test_all_public_names_can_be_imported_at_once():
    said = python("from gitstate import *\nprint(*sorted(globals()))")

    assert set(gitstate.__all__) <= set(said[0].split())


def test_a_module_of_the_package_is_there_without_an_import_of_its_own():
    said = python("import gitstate\nprint(gitstate.diff.to_json_patch, gitstate.schema.summarize)")

    assert len(said) == 1


def test_a_name_that_there_is_not_is_refused_as_ever():
    with pytest.raises(AttributeError, match="module 'gitstate' has no attribute 'nothing'"):
        _ = gitstate.nothing
    with pytest.raises(ImportError, match="cannot import name 'nothing' from 'gitstate'"):
        exec("from gitstate import nothing")
    assert not hasattr(gitstate, "__wrapped__")


def test_a_module_that_lacks_what_it_imports_says_so_itself(monkeypatch, tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.setattr(gitstate, "__path__", [*gitstate.__path__, os.fspath(tmp_path)])

    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        _ = gitstate.broken


def test_type_checkers_see_the_names_where_they_are():
    tree = ast.parse(Path(gitstate.__file__).read_text(encoding="utf-8"))
    block = next(
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {
        alias.name: node.module.removeprefix("gitstate.")
        for node in block.body
        for alias in node.names
    }

    assert seen == gitstate._HOMES
    # Of a module that has one for them to see they believe that it has every name.
    assert not any(getattr(node, "name", "") == "__getattr__" for node in tree.body)
    for name, home in seen.items():
        assert getattr(gitstate, name) is getattr(import_module(f"gitstate.{home}"), name)


class Strict(pydantic.BaseModel):
    n: int


@pytest.mark.parametrize("schema", [{}, {"schema": None}, {"schema": Strict}])
@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_a_handle_that_is_not_open_can_be_copied(path, schema, duplicate):
    state = duplicate(PipelineState(path, **schema))

    state.write({"n": 1})

    assert PipelineState(path).read() == {"n": 1}
    if schema.get("schema") is Strict:
        with pytest.raises(StateValidationError):
            state.write({"n": "many"})


def test_a_schema_that_is_not_named_is_the_default_one(path):
    parameter = inspect.signature(PipelineState).parameters["schema"]

    assert repr(parameter.default) == "UNSET"
    assert "`PipelineSchema` unless given" in PipelineState.__doc__
    for named in ({}, {"schema": parameter.default}, {"schema": gitstate.PipelineSchema}):
        with pytest.raises(StateValidationError, match="PipelineSchema"):
            PipelineState(path, **named).write({"phases": 1})


@pytest.mark.parametrize("before", [empty, in_the_journal, packed, behind])
@pytest.mark.parametrize(
    "change",
    [
        "state.write({'n': 3})",
        "state.restore_backup('HEAD~1', pointer='/m')",
        "state.create_backup()",
    ],
)
def test_nothing_is_imported_while_others_wait_for_the_lock(before, change, path):
    before(path)
    if before not in {empty, behind}:
        PipelineState(path).write({"n": 3, "m": 1})
        PipelineState(path).write({"n": 3})
    said = python(
        """
        import sys
        import gitstate
        from gitstate.lock import StateLock

        acquire, release, held = StateLock.acquire, StateLock.release, []

        def acquiring(self, *arguments):
            acquire(self, *arguments)
            held.append(set(sys.modules))

        def releasing(self):
            for name in set(sys.modules) - held.pop():
                if name.split(".")[0] in ("gitstate", "dulwich", "pydantic", "filelock"):
                    print(name)
            release(self)

        StateLock.acquire, StateLock.release = acquiring, releasing
        state = gitstate.PipelineState(sys.argv[1])
        try:
            CHANGE
        except gitstate.VersionNotFoundError:
            pass
        assert not held
        """.replace("CHANGE", change),
        path,
    )

    assert said == []


def test_threads_that_come_at_once_for_the_first_time_share_what_is_made(path):
    packed(path)

    said = python(
        """
        import sys
        import threading
        import gitstate

        sys.setswitchinterval(1e-6)
        state = gitstate.PipelineState(sys.argv[1])
        repository = state._parts.store.repository
        start, found = threading.Barrier(8), []

        def first():
            start.wait()
            found.append(repository._packs)
            state.write({"by": threading.get_ident()})

        threads = [threading.Thread(target=first) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(len(found), len({id(each) for each in found}), state.log(1).__next__().serial)
        """,
        path,
    )

    assert said == ["8 1 11"]


@pytest.mark.skipif(sys.platform == "win32", reason="nobody forks there")
@pytest.mark.parametrize(
    "module", ["dulwich.object_store", "pydantic.main", "gitstate.transaction"]
)
def test_a_child_that_was_forked_while_a_thread_was_importing_can_import_it(module, path):
    packed(path)

    said = python(
        """
        import os
        import signal
        import sys
        import threading
        import time
        import gitstate

        importing = threading.Event()

        class Slow:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name == sys.argv[2]:
                    importing.set()
                    time.sleep(0.5)

        sys.meta_path.insert(0, Slow)
        state = gitstate.PipelineState(sys.argv[1])
        thread = threading.Thread(target=state.write, args=({"by": "a thread"},))
        thread.start()
        assert importing.wait(60)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            state.write({"by": "a child"})
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        thread.join()
        """,
        path,
        module,
    )

    assert said == ["0"]
    assert PipelineState(path).log(1).__next__().serial == 5
