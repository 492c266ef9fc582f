"""Plan: what each ref is to be in a repository that is built anew, and where history ends there.

The branch goes on where its lineage says. Where a version is lost, its history begins behind that, as behind a prune:
the archive of the audit trail has a line for each version before, and those that can be read are backups called
`recovered-<number>`. A backup whose id is damaged in a few bits is at the version that was meant; where more of it is
lost, what only its name kept is called so, too. A ref of somebody else's stays; where something behind it is lost, its
history ends before that, and what can be read further back is under `refs/recovered/`. So is whatever no ref leads to
and may be a version.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Final

from gitstate.audit import files_of
from gitstate.draft import ARCHIVE, AUDIT, BACKUPS, FAILURES, IMPORTED, UNVERSIONED, Head
from gitstate.repair.lineage import Evidence, Lineage, cut, trace
from gitstate.repair.trails import Archives, Trail, imports_left, joined, trail_left
from gitstate.repository import BRANCH, Commit, blob_id, make_blob, make_tree
from gitstate.trailers import Note

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from gitstate.draft import Draft
    from gitstate.record import GitObject
    from gitstate.repair.remains import Remains
    from gitstate.repair.wreck import Wreck
    from gitstate.repository.listing import Listing
    from gitstate.repository.objects import Raw

RECOVERED: Final = "refs/recovered/"
_OURS: Final = (BRANCH, BACKUPS, AUDIT, "refs/corrupt/", RECOVERED)
_MENDED: Final = (BRANCH, ARCHIVE, FAILURES, UNVERSIONED, IMPORTED)
_REPLACED: Final = "refs/replace/"
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ID: Final = re.compile(rb"[0-9a-f]{40}")


class Plan:
    """What is to be, once `settle` has settled it.

    Attributes:
        refs: the ids of the refs, by their names.
        symbolic: what the files of those hold that name another ref.
        ends: the commits behind which there is nothing.
        kept: a line for whatever got a name that it did not have.
        lost: a line for whatever is gone.
    """

    def __init__(
        self, remains: Remains, draft: Draft, shallow: Collection[bytes], checkouts: Iterable[str]
    ) -> None:
        """`shallow` are the lines of Git's file of that name; `checkouts` name commits beside the refs."""
        self._remains = remains
        self._draft = draft
        self._checkouts = sorted(filter(remains.closed, checkouts))
        ids = (line.decode() for line in shallow if _ID.fullmatch(line))
        self._shallow = frozenset(filter(remains.closed, ids))
        self._blurred = len(self._shallow) < len(shallow)
        self._made: list[GitObject] = []
        self.refs: dict[str, str] = {}
        self.symbolic: dict[str, bytes] = {}
        self.ends: set[str] = set()
        self.kept: list[str] = []
        self.lost: list[str] = []

    def settle(
        self,
        listing: Listing,
        wreck: Wreck,
        serials: dict[str, int],
        state: bytes | None,
        theirs: Mapping[str, str],
    ) -> None:
        """Decides. `serials` are the numbers of versions that were written down, by their ids.

        `state` is what the state file holds, None where that is none; `theirs` are the refs of another repository of the
        same history.
        """
        remains = self._remains
        wanted = _wanted(listing, wreck, theirs)
        self._take_others(wanted, listing)
        others = [at for name, at in self.refs.items() if not name.startswith(_OURS)]
        claimed = remains.reach([*others, *self._checkouts], self._shallow).commits
        archives = Archives(remains, wanted.get(ARCHIVE, []))
        written = {*serials, *wreck.named(BRANCH), *archives.commits(), *self._named()}
        tips = wanted.get(BRANCH, [])
        blob = blob_id(state or b"")
        pruned, other = archives.last or 0, theirs.get(BRANCH)
        evidence = Evidence(tips, wreck.whole, pruned, written, claimed, blob, other)
        lineage = trace(remains, evidence)
        archives.add_others(lineage.known | written, claimed)
        known = {*lineage.known, *written, *archives.commits()}
        torn = _are_torn(listing, archives) or any(map(known.isdisjoint, self._nowhere(wanted)))
        if not lineage.line and state is not None:
            self._begin_behind(lineage, archives, serials, state)
        if lineage.line:
            newest = lineage.line[0].note.serial
            last = archives.last
            first = self._first_by_boundary(lineage.own) if last is None else last + 1
            cut(lineage, remains, first if first <= newest else 1, claimed)
            self.refs[BRANCH] = lineage.line[0].id
            nameless = self._nameless(lineage, first, claimed) if torn else []
            self._name([*lineage.rest, *nameless])
            self._tell_lost(lineage, first, serials, tips)
            self._archive(archives, lineage, serials)
            self._end(lineage.line, lineage.own)
        elif tips or BRANCH in listing.ids:
            self.lost.append(f"{BRANCH}: was at {(*tips, '?')[0]}, and no version can be read")
        if archives.whole and (ARCHIVE not in self.refs or (archives.last or 0) >= lineage.oldest):
            self.refs[f"{RECOVERED}archive"] = archives.whole
        untold = torn or not wreck.now.refs
        self._mend_trails(wanted, claimed, lineage.lost_behind(remains), untold=untold)
        self._mend_imports(wanted.get(IMPORTED, []), claimed, untold=untold)
        remains.add([*self._made, *self._draft.objects])
        self._keep_the_rest(tips, archives, torn=torn)

    @property
    def additions(self) -> list[Raw]:
        """The objects that the new repository lacks and is to have."""
        commits = self._remains.reach(self._tips(), self.ends).commits
        return self._remains.had_elsewhere({*commits, *self.refs.values()})

    # -- refs --------------------------------------------------------------------------------------------------------

    def _take_others(self, wanted: dict[str, list[str]], listing: Listing) -> None:
        """All refs but the branch and the trails, as they are, as far as they name something that can be read."""
        self.symbolic = {
            name: content
            for name, content in listing.symbolic.items()
            if name != BRANCH and not name.startswith(_REPLACED)
        }
        for name, ids in wanted.items():
            if name in _MENDED or name.startswith(_REPLACED):
                continue
            at = next(filter(self._remains.closed, ids), None)
            if at is None and name.startswith(BACKUPS) and self._is_mended(name, ids):
                continue
            if at is not None and name.startswith(BACKUPS) and not self._remains.version(at):
                self.symbolic.pop(name, None)
                moved = f"{RECOVERED}{name.removeprefix('refs/')}"
                self.refs[moved] = at
                self.kept.append(f"{moved}: was called {name}, and is no version")
            elif at is not None:
                self.refs[name] = at
            if at is None or at != ids[0] or name in listing.torn:
                was = ids[0] if ids and name not in listing.torn else "what its file does not say"
                now = f"is at {at} now" if at else "is left out"
                self.lost.append(f"{name}: at {was}, which cannot be read whole; it {now}")
        for name, target in listing.dangling(wanted):
            if self.symbolic.pop(name, None) is not None:
                self.lost.append(f"{name}: names {target}, which is not there; it is left out")
        self.lost += [
            f"a line of packed-refs, and the names after it, if there were any: {line!r}"
            for line in listing.strays
        ]

    def _is_mended(self, name: str, ids: Iterable[str]) -> bool:
        """Whether what a backup's ref says, which leads to nothing, is a version's id but for a little; it is that then."""
        for at in ids:
            if (meant := self._remains.meant_by(at)) is not None:
                self.refs[name] = meant.id
                self.kept.append(f"{name}: was at {at}, a damaged id, and is at {meant.id} now")
                return True
        return False

    def _nowhere(self, wanted: Mapping[str, list[str]]) -> Iterator[list[str]]:
        """The ids at which backups that are left out may have been."""
        for name, ids in wanted.items():
            left_out = name not in self.refs and not any(map(self._remains.closed, ids))
            if left_out and name.startswith(BACKUPS):
                yield ids

    def _keep_the_rest(self, tips: Iterable[str], archives: Archives, *, torn: bool) -> None:
        """Names what no ref leads to: what is behind something lost, and versions of which nothing says whose they are.

        Where refs are lost, so are names of what is not gitstate's, and all of that is named anew.
        """
        remains, gone, pruned = self._remains, set(archives.commits()), archives.pruned()
        ahead = {at for at in tips if at not in pruned and remains.closed(at)}
        found = remains.reach(self._tips(), self.ends)
        for at in sorted(found.ends - self.ends - self._shallow):
            # Else it is a version of ours, and the archive says so.
            if not gone.issuperset(remains.parents(at)):
                self.lost.append(f"what was before {at}, or a part of it: history ends there")
        others = remains.others if torn or self.lost else set()
        while True:
            orphans = {
                at
                for at in {*remains.commits, *others} - found.commits
                if at not in pruned
                and (remains.version(at) or (at in others and remains.closed(at)))
            } - {*self.refs.values()}
            parents = {parent for each in orphans for parent in remains.parents(each)}
            ahead = (ahead | found.below | (orphans - parents)) - found.commits
            if not ahead:
                break
            for at in ahead:
                commit = remains.commit(at)
                number = f"{commit.note.serial}-" if commit else ""
                # One that was imported stands by itself, and nobody but its name knows it.
                begins = f"{BACKUPS}recovered-" if number == "0-" else RECOVERED
                name = f"{begins}{number}{at[:12]}"
                self.refs[name] = at
                self.kept.append(f"{name}: nothing led to it any more")
            ahead = set()
            found = remains.reach(self._tips(), self.ends)
        self.ends = found.ends

    def _tips(self) -> list[str]:
        return [*self.refs.values(), *self._checkouts]

    # -- the branch --------------------------------------------------------------------------------------------------

    def _first_by_boundary(self, own: dict[str, Commit]) -> int:
        return max((own[at].note.serial for at in self._shallow if at in own), default=1)

    def _nameless(self, found: Lineage, first: int, claimed: Collection[str]) -> list[Commit]:
        """Older versions that had a name, where names are lost: each was an end of history. Where these are too, all."""
        ends = set(self._shallow)
        if self._blurred or (found.oldest > 1 and found.line[-1].id not in ends):
            ends = set(found.own)
        older = (each for each in found.own.values() if each.note.serial < min(first, found.oldest))
        mine = (each for each in older if each.id in ends and each.id not in claimed)
        return [each for each in mine if self._remains.version(each.id)]

    def _name(self, versions: list[Commit]) -> None:
        named = self._named()
        for version in versions:
            if version.id not in named:
                name = f"{BACKUPS}recovered-{version.note.serial}"
                name += f"-{version.id[:7]}" if name in self.refs else ""
                self.refs[name] = version.id
                self.kept.append(f"{name}: a version that no ref led to any more")

    def _begin_behind(
        self, lineage: Lineage, archives: Archives, serials: dict[str, int], state: bytes
    ) -> None:
        """Where there were versions, and none can be read: the state file becomes one, behind them."""
        ids = archives.ids(lineage, serials)
        if last := max(ids, default=0):
            moment = lineage.own[ids[last]].note.time if ids[last] in lineage.own else _LONG_AGO
            note = Note("lost", last, moment, 0, "")
            self._draft.head = Head(Commit(ids[last], (), "", "", note), "")
            message = "repair: the state file, behind versions that are lost"
            made = self._draft.add_version(make_blob(state), "repair", (), message=message).commit
            self._remains.add(self._draft.objects)
            lineage.own[made.id] = made
            lineage.line = [made]

    def _tell_lost(
        self, found: Lineage, first: int, serials: dict[str, int], tips: Iterable[str]
    ) -> None:
        there = {each.note.serial for each in (*found.line, *found.rest)}
        known = serials | {at: commit.note.serial for at, commit in found.own.items()}
        ids = {serial: at for at, serial in known.items()}
        gone: list[int] = []
        for serial in range(first, max([*there, *ids]) + 1):
            at = ids.get(serial, "")
            if serial in there or (at and self._remains.version(at)):
                continue
            if at in found.own:
                what = f"{at}, {found.own[at].note.subject}"
                self.lost.append(f"version {serial} ({what}): its state is gone")
            else:
                gone.append(serial)
        for _, group in groupby(enumerate(gone), lambda each: each[1] - each[0]):
            numbers = [serial for _, serial in group]
            what = (
                f"versions {numbers[0]} to {numbers[-1]}"
                if numbers[1:]
                else f"version {numbers[0]}"
            )
            self.lost.append(f"{what}: all of it is gone")
        for at in tips:
            if at not in known and not self._remains.closed(at):
                self.lost.append(f"version {at}, where the branch was: it cannot be read")

    def _end(self, line: list[Commit], own: dict[str, Commit]) -> None:
        oldest = line[-1].note.serial
        inside = {each.id for each in line}
        self.ends = {at for at in self._named() if at in own and own[at].note.serial < oldest}
        self.ends |= {at for at in self._shallow if at not in inside and self._remains.closed(at)}
        if oldest > 1:
            self.ends.add(line[-1].id)

    def _named(self) -> set[str]:
        return {at for name, at in self.refs.items() if name.startswith(BACKUPS)}

    # -- the audit trail ---------------------------------------------------------------------------------------------

    def _archive(self, archives: Archives, lineage: Lineage, serials: dict[str, int]) -> None:
        """Sees that the archive has a line for each version before the line begins, and none behind."""
        oldest, last = lineage.oldest, archives.last or 0
        if archives.whole is not None and last == oldest - 1:
            self.refs[ARCHIVE] = archives.whole
        elif oldest > 1:
            unknown = archives.draw(lineage, serials, self._named())
            if unknown:
                self.lost.append(f"{ARCHIVE}: what {unknown} of its lines said")
            lines = {serial: archives.lines[serial].text for serial in range(1, oldest)}
            self.refs[ARCHIVE] = self._draft.keep_archive(files_of(lines), {}, oldest - 1)

    def _mend_trails(
        self,
        wanted: Mapping[str, list[str]],
        claimed: Collection[str],
        lost: list[Commit],
        *,
        untold: bool,
    ) -> None:
        """What is left of each trail, and what the commits of `lost` versions say.

        Where it is `untold` whether there was one, lines that are left are taken for one.
        """
        for ref, more in ((FAILURES, []), (UNVERSIONED, lost)):
            ids, left = wanted.get(ref, []), Trail(None, [], whole=True)
            if ids or untold:
                left = trail_left(self._remains, ids, claimed, failures=ref == FAILURES)
            if ids and not left.whole:
                self.lost.append(f"{ref}: some of its lines")
            made, tip = joined(left.tip, [*left.events, *more])
            self._made += [*made, make_tree({})] if made else []
            if tip is not None:
                self.refs[ref] = tip

    def _mend_imports(self, ids: list[str], claimed: Collection[str], *, untold: bool) -> None:
        """What was imported stays; where a part is lost, or of what it was put behind, all that is left."""
        if ids and self._remains.trail(ids[0])[1]:
            self.refs[IMPORTED] = ids[0]
        elif ids or untold:
            left = imports_left(self._remains, ids, claimed)
            if left.kept or left.more:
                made = self._draft.keep_imports(left.more, left.kept, left.extra)
                self.refs[IMPORTED] = made
            if ids and not left.whole:
                self.lost.append(f"{IMPORTED}: some of its lines")


def _are_torn(listing: Listing, archives: Archives) -> bool:
    """Whether some of what says where our refs are is damaged, or missing."""
    expected = {BRANCH, *([ARCHIVE] if archives.lines else [])}
    ours = any(name.startswith(_OURS) for name in listing.torn)
    return ours or bool(listing.strays) or not expected <= listing.ids.keys()


def _wanted(listing: Listing, wreck: Wreck, theirs: Mapping[str, str]) -> dict[str, list[str]]:
    """Of each ref the ids that it may be at: that of the journal, what is on the disk, and where others have it.

    Names that only the others have are taken where nothing is left of ours.
    """
    wanted = {name: list(ids) for name, ids in listing.ids.items()}
    merged = wreck.merged
    changes = [(each.name, each.new) for each in merged.refs] if merged else []
    for name, at in (*changes, *wreck.now.refs.items()):
        if at is None:
            wanted.pop(name, None)
        elif wanted.get(name, [])[:1] != [at]:
            wanted[name] = [at, *wanted.get(name, [])]
    for name, at in theirs.items():
        if name.startswith((BACKUPS, AUDIT)) and (name in wanted or not listing.ids):
            wanted.setdefault(name, []).append(at)
    return wanted
