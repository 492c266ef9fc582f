"""gitstate with one of its precautions taken out, and the suites that must notice.

A mutant is a copy of the package in which one piece of text is another. `caught` runs suites against it: one that no
suite catches is a precaution that no test proves.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
EXPLORER: Final = "tests/crash/test_explorer.py"
PATIENCE_SECONDS: Final = 600
"""No suite takes so long by far; one that does not end is no proof."""


@dataclass(frozen=True)
class Mutant:
    """A precaution that is taken out.

    Attributes:
        module: where it stands.
        old: its text, there once.
        new: what stands there instead.
        suite: the file of tests that must fail.
        tests: which of them.
    """

    module: str
    old: str
    new: str
    suite: str
    tests: str = ""

    def caught(self, folder: Path, seed: str) -> str | None:
        """The name of a test that fails, None if none does."""
        shutil.copytree(ROOT / "gitstate", folder / "gitstate")
        path = folder / "gitstate" / self.module
        source = path.read_text()
        assert source.count(self.old) == 1, (
            f"{self.module} has it {source.count(self.old)} times: {self.old}"
        )
        path.write_text(source.replace(self.old, self.new))
        # From the folder with the mutant, so that Python finds that first.
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-n0",
            "--rootdir",
            os.fspath(ROOT),
        ]
        command += ["-c", os.fspath(ROOT / "pyproject.toml"), os.fspath(ROOT / self.suite)]
        command += ["--seed", seed, *(["-k", self.tests] if self.tests else [])]
        output = folder / "output"
        # To a file, and with all its children: one that outlives the tests would keep a pipe open.
        with (
            output.open("wb") as file,
            subprocess.Popen(
                command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            ) as process,
        ):
            try:
                status = process.wait(PATIENCE_SECONDS)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        said = output.read_text(errors="replace")
        assert status in {0, 1}, said
        failed = [line for line in said.splitlines() if line.startswith("FAILED")]
        return failed[0].split(" - ")[0].removeprefix("FAILED ") if failed else None


def _explored(*workloads: str) -> str:
    return "whatever and (" + " or ".join(workloads) + ")"


MUTANTS: Final = {
    # -- flushes
    "the record is not flushed": Mutant(
        "journal.py",
        "        self._flush()\n        self._end, self._sequence = end, record.sequence\n        self._durable",
        "        self._end, self._sequence = end, record.sequence\n        self._durable",
        EXPLORER,
        _explored("transactions"),
    ),
    "the new state file is not flushed": Mutant(
        "files.py",
        "            os.fsync(self._descriptor)\n            made = identity_of",
        "            made = identity_of",
        EXPLORER,
        _explored("transactions"),
    ),
    "the name of the first state file is not flushed": Mutant(
        "effects.py",
        "                files.sync_directory(path.parent)\n",
        "                pass\n",
        EXPLORER,
        _explored("first_write"),
    ),
    "the name of a new journal is not flushed": Mutant(
        "generations.py",
        "    sync_published(directory)\n    for number in older:",
        "    for number in older:",
        EXPLORER,
        _explored("checkpoints", "full_journals"),
    ),
    "a checkpoint does not flush the state file's name": Mutant(
        "checkpoint.py",
        "                files.sync_directory(self._layout.state.parent)\n",
        "",
        EXPLORER,
        _explored("checkpoints", "full_journals"),
    ),
    "a checkpoint does not flush the refs": Mutant(
        "checkpoint.py",
        "                refs.flush(names & moved)\n",
        "",
        "tests/test_regressions.py",
        "moves_during_a_checkpoint",
    ),
    "a checkpoint flushes no refs ahead": Mutant(
        "checkpoint.py",
        "            refs.flush(names)\n",
        "            pass\n",
        "tests/test_regressions.py",
        "checkpoint_flushes_the_refs",
    ),
    "a checkpoint does not flush the pack's name": Mutant(
        "repository/packs.py",
        "            files.sync_directory(self._directory)\n",
        "            pass\n",
        EXPLORER,
        _explored("checkpoints", "full_journals"),
    ),
    "a checkpoint does not flush the pack": Mutant(
        "files.py",
        "            file.flush()\n            os.fsync(file.fileno())",
        "            file.flush()",
        EXPLORER,
        _explored("checkpoints", "full_journals"),
    ),
    "a checkpoint does not flush the notes": Mutant(
        "checkpoint.py",
        "        ledger.flush()\n        while",
        "        while",
        EXPLORER,
        _explored("checkpoints"),
    ),
    "a new repository is not flushed": Mutant(
        "layout.py",
        '                files.sync_tree(scratch / "repo")\n',
        "",
        EXPLORER,
        _explored("first_write"),
    ),
    "nobody flushes the name of a new store": Mutant(
        "recovery.py",
        "            self._layout.flush_place()\n",
        "",
        EXPLORER,
        _explored("first_write"),
    ),
    "new folders are not flushed into their parents": Mutant(
        "files.py",
        "            os.mkdir(path)\n        sync_directory(path.parent)",
        "            os.mkdir(path)",
        EXPLORER,
        _explored("first_write_in_new_folders"),
    ),
    "an edit is not flushed before something is built on it": Mutant(
        "statefile.py",
        "            files.flush_file(path)\n            files.sync_directory(path.parent)\n",
        "            pass\n",
        "tests/test_regressions.py",
        "edit_is_flushed",
    ),
    "a journal that was lost begins again with refs that are not flushed": Mutant(
        "recovery.py",
        "            self._repository.refs.flush(refs)\n",
        "",
        "tests/test_regressions.py",
        "flushes_refs_and_objects",
    ),
    # -- recovery
    "recovery goes on in the journal it found": Mutant(
        "recovery.py",
        "        if records or not old.clean_rest():",
        "        if records:\n            ledger.now = records[-1].after\n        if not old.clean_rest():",
        EXPLORER,
        _explored("killed"),
    ),
    "recovery does not look behind a torn tail": Mutant(
        "recovery.py",
        "        if records or not old.clean_rest():",
        "        if records:",
        "tests/test_regressions.py",
        "late_part",
    ),
    "recovery does not read the loose objects": Mutant(
        "effects.py",
        "        self._repository.sweep()\n",
        "",
        EXPLORER,
        _explored("checkpoints", "full_journals"),
    ),
    "recovery renames over whatever file is there": Mutant(
        "effects.py",
        "            return at in state.replaces\n",
        "            return True\n",
        "tests/test_crash.py",
        "edit_made_between",
    ),
    "recovery puts a deleted first file back": Mutant(
        "effects.py",
        "        return not state.replaces and not any(self.ref(name) == new for name, new in state.refs)",
        "        return True",
        "tests/test_crash.py",
        "not_put_back",
    ),
    "a file left without its record stays": Mutant(
        "effects.py",
        "            if path.name != needed:\n                files.remove(path)\n",
        "            pass\n",
        EXPLORER,
        _explored("transactions"),
    ),
    "the latest record is believed unread": Mutant(
        "journal.py",
        "        if not found:\n            # The last",
        "        if False:\n            # The last",
        "tests/test_journal.py",
        "latest or lies",
    ),
    "a record leaves out where its second ref is from then on": Mutant(
        "record.py",
        "        moved = {c.name: c.new for c in record.refs if ",
        "        moved = {c.name: c.new for c in record.refs[:1] if ",
        "tests/test_regressions.py",
        "restore_over_a_broken_file",
    ),
    "the last record stands for those before it wherever it is": Mutant(
        "recovery.py",
        "        if self._effects.in_place(last):\n",
        "        if True:\n",
        "tests/test_regressions.py",
        "another_process",
    ),
    "the end of the journal is looked at before all records are read": Mutant(
        "recovery.py",
        "        behind = last is not None and self._behind(last)\n"
        "        # Asked behind that: who has read all of them stands at the first one that is damaged.\n"
        "        if lost or behind or not ledger.journal.clean_tail():\n",
        "        if lost or not ledger.journal.clean_tail() or (last is not None and self._behind(last)):\n",
        "tests/test_regressions.py",
        "all_are_read",
    ),
    "what was seen in place is judged again": Mutant(
        "recovery.py",
        "merge(self._ledger.theirs())",
        "merge(self._ledger.journal.reread())",
        "tests/test_regressions.py",
        "puts_back or puts_on",
    ),
    "an abort that may never have been flushed is appended behind": Mutant(
        "recovery.py",
        "        if last.aborts is not None:\n",
        "        if False:\n",
        "tests/test_regressions.py",
        "behind_an_abort",
    ),
    "only the refs of the last record are looked at": Mutant(
        "effects.py",
        "        refs = {**record.after.refs, **{",
        "        refs = {**{",
        "tests/test_regressions.py",
        "put_back_whichever",
    ),
    "who follows into a new journal does not flush its name": Mutant(
        "ledger.py",
        "        if self.journal is not live and not self.journal.named:\n",
        "        if False:\n",
        "tests/test_regressions.py",
        "journal_that_another_began",
    ),
    "a journal's name counts as flushed before anything was appended": Mutant(
        "journal.py",
        "                self.named |= part.durable > self._first.sequence\n",
        "                self.named = True\n",
        "tests/test_journal.py",
        "name_of_the_generation",
    ),
    "a bad record before a durable one is a torn tail": Mutant(
        "journal.py",
        "            if part is not None and part.durable >= self.next_sequence:",
        "            if False and part is not None:",
        "tests/test_crash.py",
        "damage_before",
    ),
    # -- the order of things
    "the file is renamed before the record": Mutant(
        "store.py",
        "        record = ledger.append(record)\n        self.file.hand_over()\n",
        "        if state:\n            self._effects.place(state)\n            found = self.file.find()\n"
        "        record = ledger.append(record)\n        self.file.hand_over()\n",
        EXPLORER,
        _explored("transactions"),
    ),
    "no second look for an edit": Mutant(
        "store.py",
        "                self.file.refuse_edit(found)\n                self._effects.place",
        "                self._effects.place",
        "tests/test_crash.py",
        "kill_at_any_file_call_loses and edit",
    ),
    "a transaction that was refused after its record is not taken back": Mutant(
        "store.py",
        "            ledger.append(Record(ledger.journal.next_sequence, aborts=record.sequence))",
        "            pass",
        "tests/test_crash.py",
        "kill_at_any_file_call_loses and edit",
    ),
    "objects are not looked for once the ref names them": Mutant(
        "effects.py",
        "        self._repository.put(lost)\n",
        "",
        "tests/test_git.py",
        "upkeep_at_any_file_call_of_a_transaction",
    ),
    # -- locks
    "a lock that was lost goes unnoticed": Mutant(
        "store.py",
        "        if not ours:\n",
        "        if False:\n",
        "tests/test_state.py",
        "lock",
    ),
    "a deleted lock file is as good as one that is there": Mutant(
        "lock.py",
        "            return os.path.samestat(os.stat(self.path), os.fstat(descriptor))",
        "            return True",
        "tests/test_lock.py",
    ),
    "a forked child keeps the lock": Mutant(
        "lock.py",
        "        lock._forget_parent()  # noqa: SLF001  the same module\n",
        "        pass\n",
        "tests/test_lock.py",
        "child",
    ),
    "who lets go of the lock is first again": Mutant(
        "lock.py",
        "                if place.first or now >= patience:\n",
        "                if True:\n",
        "tests/test_lock.py",
        "next_when_the_holder",
    ),
    "a turn with the lock does not end": Mutant(
        "lock.py",
        "        if begin < self._turn_end and self._try(operation):",
        "        if self._try(operation):",
        "tests/test_lock.py",
        "turn",
    ),
    "who gives up keeps the queue": Mutant(
        "queue.py",
        "            if place is not None and place.sent(self):",
        "            if True:",
        "tests/test_lock.py",
        "queue",
    ),
    "a forked child keeps a place in the queue": Mutant(
        "queue.py",
        "    for file in list(_files):\n        file.close()\n",
        "",
        "tests/test_lock.py",
        "child",
    ),
    "a stopped process keeps everybody out": Mutant(
        "lock.py",
        "                if place.first or now >= patience:\n",
        "                if place.first or now >= deadline:\n",
        "tests/test_lock.py",
        "stopped",
    ),
    "a pack has no mark while it has no index": Mutant(
        "repository/packs.py",
        '        files.write_new(placed.with_suffix(".keep"), _OUR_MARK)\n',
        "",
        "tests/test_torture.py",
        "repack",
    ),
    "a pack has no mark while what it replaces is there": Mutant(
        "repository/packs.py",
        "        self._written = placed if tips else None, tips\n",
        "        self._written = placed if tips else None, tips\n        self.release()\n",
        "tests/test_torture.py",
        "any_file_call",
    ),
    "a pack has the name that its content makes": Mutant(
        "repository/packs.py",
        "{secrets.token_hex(20)}",
        "{written.checksum.hex()}",
        "tests/test_torture.py",
        "listed",
    ),
    "a pack is copied unread": Mutant(
        "repository/packs.py",
        "                pack.check()\n                pack.index",
        "                pack.index",
        "tests/test_repository.py",
        "a_damaged_pack_is_not_written_together",
    ),
    "an index is believed unread": Mutant(
        "repository/index.py",
        "if whole.digest() != content[-NAME_SIZE:]:",
        "if not content:",
        "tests/test_repository.py",
        "a_damaged_pack_is_not_written_together",
    ),
    "an empty lock of Git's is taken away": Mutant(
        "repository/refs.py",
        '        torn = content != "" and not content.strip("\\0")',
        '        torn = not content.strip("\\0")',
        "tests/test_git.py",
        "lock",
    ),
    "a lock of ours is left": Mutant(
        "repository/refs.py",
        "        return torn or content in ours or age > _LOCK_ABANDONED_SECONDS",
        "        return torn or age > _LOCK_ABANDONED_SECONDS",
        "tests/test_crash.py",
        "kill_at_any_file_call_loses and transaction",
    ),
    "after a failed flush everything goes on": Mutant(
        "ledger.py",
        "        self._failure = str(error)\n",
        "",
        "tests/test_store.py",
    ),
    "a spare file with two names is written": Mutant(
        "repository/refs.py",
        "status.st_nlink == 1 and ",
        "",
        "tests/test_refs.py",
    ),
    "a checkpoint leaves the spare files": Mutant(
        "repository/refs.py",
        "            files.remove(self._beside(_SPARE, name))\n",
        "            pass\n",
        "tests/test_refs.py",
    ),
    # -- repair
    "the old repository goes before the new one is flushed": Mutant(
        "swap.py",
        "    files.sync_tree(folder)\n",
        "",
        EXPLORER,
        _explored("repairs"),
    ),
    "the old journal is not kept": Mutant(
        "swap.py",
        '            files.write_new(folder / "kept" / path.name, content, mode=S_IMODE(status.st_mode))\n',
        "            pass\n",
        "tests/test_repair.py",
        "put_aside",
    ),
    "a repair that was interrupted is not gone on with": Mutant(
        "swap.py",
        "    return [store / name for name in names if _is_one(store / name) and _has_old(store / name)]\n",
        "    return []\n",
        "tests/test_repair.py",
        "kill_in_the_swap",
    ),
    "what Git does beside a repair is not noticed": Mutant(
        "repair/mending.py",
        "                if seen != self._look():\n",
        "                if False:\n",
        "tests/test_repair.py",
        "git_does_beside",
    ),
    "what Git has begun to write goes on in the new repository": Mutant(
        "repair/mending.py",
        "gitlock.locked(packed) if packed.parent.is_dir() else contextlib.nullcontext()",
        "contextlib.nullcontext()",
        "tests/test_repair_history.py",
        "packed_refs",
    ),
    # -- retention
    "the file that tells Git where history begins is not flushed": Mutant(
        "repository/gitlock.py",
        "    files.sync_directory(path.parent)\n",
        "",
        EXPLORER,
        _explored("prunes"),
    ),
    "Git is not told where history begins": Mutant(
        "retention.py", "                    self._tell_git()\n", "", "tests/test_retention.py"
    ),
    "Git is told where history is to end before it does": Mutant(
        "retention.py",
        "                done = last < planned.versions.start or",
        "                if planned.versions:\n"
        "                    head = self._store.reader.refs()[BRANCH]\n"
        "                    end = self._store.chain.at(head, planned.versions.stop)\n"
        "                    self._store.repository.shallow.write({end.id})\n"
        "                done = last < planned.versions.start or",
        EXPLORER,
        _explored("prunes"),
    ),
    "what was named meanwhile is given back": Mutant(
        "retention.py",
        "            if not needed.issuperset(store.repository.roots()):\n",
        "            if False:\n",
        "tests/test_retention.py",
        "while_a_prune",
    ),
    "what checkouts name is given back": Mutant(
        "repository/__init__.py",
        'return {*self.refs.all("refs/").values(), *self.checked_out()[0]}',
        'return {*self.refs.all("refs/").values()}',
        "tests/test_retention.py",
        "checkout",
    ),
    "a commit-graph outlives what it names": Mutant(
        "repository/packs.py",
        '        stale = ("info/commit-graph", f"{chain}/commit-graph-chain", "pack/multi-pack-index")\n',
        '        stale = (f"{chain}/commit-graph-chain",)\n',
        "tests/test_retention.py",
        "stock_git",
    ),
    "who only looks prunes": Mutant(
        "parts.py",
        "            if writer.committed:\n",
        "            if True:\n",
        "tests/test_retention.py",
        "who_only_looks",
    ),
    "a young object of somebody else's goes": Mutant(
        "repository/loose.py",
        "                    if time.time() - os.stat(path).st_mtime > _ABANDONED_SECONDS:\n",
        "                    if True:\n",
        "tests/test_retention.py",
        "old",
    ),
    "a name that goes is left to a pack-refs under way": Mutant(
        "repository/refs.py",
        "        with gitlock.locked(path):\n            if name",
        "        with contextlib.nullcontext():\n            if name",
        "tests/test_retention.py",
        "come_back",
    ),
    # -- large objects
    "a large object is not flushed": Mutant(
        "large.py",
        "files.write_new(path, made.held, mode=0o444)",
        "path.write_bytes(made.held)",
        EXPLORER,
        _explored("large_objects"),
    ),
    "a large object's name is not flushed": Mutant(
        "large.py",
        "        if self._fresh:\n",
        "        if False:\n",
        EXPLORER,
        _explored("large_objects"),
    ),
    "a large object goes before the record that names it": Mutant(
        "checkpoint.py",
        "            self._ledger.begin(self._ledger.now, newer, mark.sequence)\n",
        "            large.sweep(self._layout.store, ())\n"
        "            self._ledger.begin(self._ledger.now, newer, mark.sequence)\n",
        "tests/test_crash.py",
        "large",
    ),
    "a large object goes with an interrupted transaction that has happened": Mutant(
        "large.py",
        "        if unknown or os.getpid()",
        "        if os.getpid()",
        "tests/test_large.py",
        "interrupt",
    ),
    "a forked child takes its parent's large object": Mutant(
        "large.py",
        "        if unknown or os.getpid() != self._pid:",
        "        if unknown:",
        "tests/test_large.py",
        "forked",
    ),
    "the other name of a large object stays": Mutant(
        "repository/loose.py",
        "                files.remove(temporary)  # a rename to another name of the same file does nothing\n",
        "                pass\n",
        "tests/test_large.py",
        "name",
    ),
    # -- remotes
    "a pack from a remote is not flushed": Mutant(
        "repository/packs.py",
        "                files.flush_file(building.with_suffix(suffix))\n",
        "                pass\n",
        EXPLORER,
        _explored("pulls"),
    ),
    "the branch moves before what it leads to is there": Mutant(
        "sync/pull.py",
        "                repository.adopt(pack)\n                yield\n",
        "                yield\n                repository.adopt(pack)\n",
        "tests/test_remotes.py",
        "take_turns and folder",
    ),
    "a pull takes a state for seen that is in no version": Mutant(
        "sync/pull.py",
        "        if found.content is not None and found.blob != (draft.head.blob if draft.head else None):\n",
        "        if False:\n",
        "tests/test_pull.py",
        "no_version",
    ),
    "a push looks at no status": Mutant(
        "sync/push.py",
        "        if (words := self._refused.get(BRANCH)) is not None:\n",
        "        if (words := self._refused.get(BRANCH)) and False:\n",
        "tests/test_remotes.py",
        "boundary",
    ),
    "what the garbage of a killed pull leads to counts as here": Mutant(
        "sync/child.py",
        "        version = store.chain.at(head, serial) if head is not None else None\n"
        "        if version is not None and version.id == object_id:\n",
        "        if True:\n",
        "tests/test_pull.py",
        "killed",
    ),
    "what no ref leads to comes with a pull": Mutant(
        "sync/inspection.py",
        "        self.see_nothing_else()\n",
        "        pass\n",
        "tests/test_inspection.py",
        "nothing_leads_to",
    ),
}
