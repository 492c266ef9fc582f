"""Explores what a power cut may leave of a workload, opens each of it with gitstate, and judges."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import oracle
from disk import MODELS, Disk, Image
from oracle import KILLED, Ack, Document, Tell, file_calls, fork, fresh, judge, leave, repair_store
from recorder import Event, Recorder, Told
from workloads import WORKLOADS, Diary, Workload

KINDS: Final = ("lost", "kept", "names")
NAME: Final = "pipeline.json"
STOCK_GIT_EVERY: Final = 25
"""Judging a state takes five times as long with git, so that one in so many states has it."""
_EVENTS_OF_A_RECOVERY: Final = 30


@dataclass
class Expected:
    """What may be found of one state file at some moment of a workload."""

    acknowledged: list[Ack] = field(default_factory=list)
    in_flight: list[list[Document]] = field(default_factory=list)
    edit: Document | None = None
    names: dict[str, Document] = field(default_factory=dict)
    window: int | None = None
    damaged: bool = False

    def hear(self, said: dict[str, Any]) -> None:
        """Takes in what the workload says."""
        if "begins" in said:
            self.in_flight = [said["begins"]]
        if "promised" in said:
            promised = [Ack(*each) for each in said["promised"]]
            self.acknowledged += [each for each in promised if each not in self.acknowledged]
            self.in_flight = []
        if "edited" in said:
            self.edit = said["edited"]
        if "named" in said:
            name, document = said["named"]
            self.names[name] = document
        if "forgets" in said:
            del self.names[said["forgets"]]
        if "damages" in said:
            self.damaged = True
        if "keeps" in said:
            self.window = said["keeps"]

    def recovering(self) -> Expected:
        """The same from the moment on when `_recover` is at work, which makes an edit a version."""
        saved = [] if self.edit is None else [[self.edit]]
        return replace(self, in_flight=[*self.in_flight, *saved])


@dataclass(frozen=True)
class Moment:
    """A disk at one point of a workload, and what must be found on it after a power cut just then."""

    number: int
    disk: Disk
    expected: dict[str, Expected]

    def fingerprint(self, image: Image) -> int:
        """Equal for equal disks on which the same must be found."""
        return hash((image.digest(), repr(self.expected)))


def record(workload: Workload, folder: Path) -> list[Event]:
    """Every event of the workload's processes below `folder`."""
    events: list[Event] = []
    for number, life in enumerate(workload.lives):
        log = folder.with_suffix(f".life{number}")
        kills = number + 1 < len(workload.lives) and workload.death is not None

        def work(tell: Tell, life: Any = life, log: Path = log, kills: bool = kills) -> None:
            recorder = Recorder(os.fspath(folder))
            death = workload.death() if kills and workload.death else lambda call: False

            def before(call: oracle.Call) -> None:
                if death(call):
                    log.write_bytes(pickle.dumps(recorder.events))
                    os._exit(KILLED)

            with recorder.recording(), file_calls(before) if kills else nullcontext():
                life(folder / NAME, Diary(recorder.tell, folder / NAME))
            log.write_bytes(pickle.dumps(recorder.events))

        child = fork(work)
        status = child.wait()
        assert status == (KILLED if kills else 0), oracle._last_words(child.told())
        events += pickle.loads(log.read_bytes())
    return events


def moments(events: list[Event], disk: Disk) -> Iterator[Moment]:
    """The disk after each event that changes it; the same object, so look at once."""
    expected: dict[str, Expected] = {NAME: Expected()}
    for number, event in enumerate(events):
        if isinstance(event, Told):
            expected.setdefault(event.what["file"], Expected()).hear(event.what)
        else:
            disk.apply(event)
        yield Moment(number, disk, expected)


def crash_states(moment: Moment, seed: str, more: int) -> Iterator[tuple[str, Image]]:
    """What a power cut at that moment may leave, by each model: the ends, and `more` at random."""
    for number, kind in enumerate([*KINDS, *["any"] * more]):
        for model in MODELS:
            chance = random.Random(f"{seed} {moment.number} {model} {number}")
            yield f"{model} {kind} {number}", moment.disk.after_power_cut(model, chance, kind)


def judge_state(
    image: Image, expected: dict[str, Expected], folder: Path, number: int, *, recover: bool
) -> list[Event]:
    """Builds a disk and judges it; with `recover`, the events of its recovery, recorded first."""
    shutil.rmtree(folder, ignore_errors=True)
    numbers = image.build(folder)
    recorded: list[Event] = []
    with numbers.seen():
        if recover:
            recorder = Recorder(os.fspath(folder), numbers)
            with recorder.recording():
                for name, wanted in expected.items():
                    _recover(_path(folder, name), number, repair=wanted.damaged)
            recorded = recorder.events
            expected = {name: wanted.recovering() for name, wanted in expected.items()}
        for name, wanted in expected.items():
            path = _path(folder, name)
            if wanted.damaged:
                repair_store(path, twice=number % STOCK_GIT_EVERY == 0)
            judge(
                path,
                wanted.acknowledged,
                wanted.in_flight,
                edit=wanted.edit,
                window=wanted.window,
                first=("read", "log", "backup", "verify")[number % 4],
                then=("recover", "commit", "recover and commit")[number % 3],
                stock_git=number % STOCK_GIT_EVERY == 0,
            )
            state = fresh(path)
            for each, document in wanted.names.items():
                assert state.read(at=each) == document, f"the backup {each} is lost"
            leave(state)
    return recorded


def _path(folder: Path, name: str) -> Path:
    """Where the state file is: one workload makes its folders itself."""
    below = folder / "a" / "b"
    return below / name if below.is_dir() else folder / name


def _recover(path: Path, number: int, *, repair: bool) -> None:
    state = fresh(path)
    if repair:
        state.repair()
    if number % 2:
        state.read()
    state.create_backup()
    leave(state)


def explore(
    name: str, scratch: Path, *, share: tuple[int, int], seed: str, states: int, recoveries: int
) -> tuple[int, int]:
    """How many states of a workload were judged, and how many of their recoveries, cut off again.

    About as many as asked for, spread evenly over the moments of the workload, none of them twice. Of these every n-th
    is judged here: `share` is which, of how many.
    """
    scratch.mkdir(parents=True)
    folder = scratch / "disk"
    folder.mkdir()
    events = record(WORKLOADS[name], folder)
    _see_that_nothing_was_missed(events, folder)
    changes = sum(not isinstance(event, Told) for event in events)
    each = -(-states // changes)
    passed = 0
    deeper = max(1, states // max(1, recoveries // _EVENTS_OF_A_RECOVERY)) if recoveries else 0
    seen: set[int] = set()
    judged = deep = 0
    for moment in moments(events, Disk(os.fspath(folder))):
        passed += 1
        wanted = -(-states * passed // changes)  # where there are few, there are more later
        for what, image in crash_states(moment, f"{seed} {name}", 4 * each):
            if len(seen) >= min(wanted, states):
                break
            fingerprint = moment.fingerprint(image)
            if fingerprint in seen:
                continue
            seen.add(fingerprint)
            number = len(seen)
            if number % share[1] != share[0]:
                continue
            where = f"{name}, seed {seed}: event {moment.number}, {what}, state {number}"
            cut_again = deeper > 0 and number % deeper == deeper // 2
            try:
                recorded = judge_state(
                    image, moment.expected, scratch / "state", number, recover=cut_again
                )
            except Exception as error:
                raise AssertionError(f"{where}: {events[moment.number]}") from error
            judged += 1
            if cut_again:
                deep += _explore_recovery(image, recorded, moment.expected, scratch, where, number)
    return judged, deep


def _explore_recovery(
    image: Image,
    events: list[Event],
    expected: dict[str, Expected],
    scratch: Path,
    where: str,
    number: int,
) -> int:
    disk = Disk.of(image, os.fspath(scratch / "state"))
    expected = {name: wanted.recovering() for name, wanted in expected.items()}
    count = 0
    for moment, event in enumerate(events):
        disk.apply(event)
        model = MODELS[(number + moment) % 3]
        chance = random.Random(f"{where} {moment}")
        kind = ("any", "lost", "any", "names")[moment % 4]
        again = disk.after_power_cut(model, chance, kind)
        try:
            judge_state(again, expected, scratch / "again", number + moment, recover=False)
        except Exception as error:
            raise AssertionError(
                f"{where}; its recovery: event {moment}, {model} {kind}: {event}"
            ) from error
        count += 1
    return count


def _see_that_nothing_was_missed(events: list[Event], folder: Path) -> None:
    """The events, applied in order, give what is really there: no change of a file went by unseen."""
    disk = Disk(os.fspath(folder))
    for event in events:
        disk.apply(event)
    seen = {path: file[4] for path, file in disk.now().files.items()}
    there = {
        os.fspath(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
    assert seen == there, f"recorded and real files differ: {_differing(seen, there)}"


def _differing(a: dict[str, bytes], b: dict[str, bytes]) -> list[str]:
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def explore_all(
    names: list[str], *, states: int, recoveries: int, seed: str
) -> dict[str, tuple[int, int]]:
    """How many states of each workload, and cut-off recoveries, were judged, by a process for each processor."""
    processes = max(2, min(8, os.cpu_count() or 2))

    def work(tell: Tell, first: int) -> None:
        with tempfile.TemporaryDirectory(prefix="crash-", dir=_fast_directory()) as scratch:
            for number, name in enumerate(names):
                found = explore(
                    name,
                    Path(scratch) / str(number),
                    share=(first, processes),
                    seed=seed,
                    states=-(-states // len(names)),
                    recoveries=-(-recoveries // len(names)),
                )
                tell({"workload": name, "found": found})

    workers = [fork(partial(work, first=number)) for number in range(processes)]
    for worker in workers:
        worker.wait()
    failures = [oracle._last_words(worker.told()) for worker in workers if worker.status]
    assert not failures, "\n\n".join(failures)
    total = dict.fromkeys(names, (0, 0))
    for told in itertools.chain.from_iterable(worker.told() for worker in workers):
        (judged, deep), (more, deeper) = total[told["workload"]], told["found"]
        total[told["workload"]] = judged + more, deep + deeper
    return total


def _fast_directory() -> str | None:
    """Memory, where there is some to write into: what is durable is the model's to say."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
