"""Exchange: what others are given of a state as files, and what is taken over from another state manager."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gitstate.first_use import FIRST_USE

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitstate.importer import ImportReport
    from gitstate.parts import Parts
    from gitstate.policy import Policy
    from gitstate.progress import Progress
    from gitstate.version import Version


class Exchange:
    """Files out and in: a part of `PipelineState`."""

    _path: Path
    _parts: Parts
    _policy: Policy

    def export(
        self,
        target: str | os.PathLike[str],
        version: Version | int | str | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> Path:
        """`target`, as an absolute path, which is that version as a JSON file; without a version a folder of all of them.

        Files that are there are replaced. In a folder each is called by number and hash, `pipeline_000041_3f2a91c.json`;
        one that only a backup's name keeps by that and hash, `pipeline_release_3f2a91c.json`. `progress` is told how many
        of a folder's are there: `"writing"`. What the callback raises comes out as it is, and what was before that is written.

        Raises:
            VersionNotFoundError: there is no such version; nothing was written.
            StateReadError: there is no history, or a version cannot be read; those before it are written.
            StateWriteError: the disk refused; those before are written.
            ValueError: the target is a part of the state itself, or of a store.
        """
        place = Path(os.path.abspath(target))
        if version is None:
            with FIRST_USE:
                from gitstate.progress import Telling
            with Telling(progress) as tell:
                self._parts.exporter.versions(place, tell)
        else:
            self._parts.exporter.version(version, place)
        return place

    def export_bundle(
        self,
        target: str | os.PathLike[str],
        version: Version | int | str | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> Path:
        """`target`, as an absolute path, a Git bundle of all history: `git clone --mirror` makes a repository of it.

        With a version, of that alone: `git clone` gives a folder with the state file. Its commit has no parent, and the
        version's author, date and message, to which a line `Version: <hash>` is added. Of all history `progress` is told how
        many of its objects are found, `"following"`, before they are written. What the callback raises comes out as it is,
        and nothing is written.

        Raises:
            VersionNotFoundError: there is no such version; nothing was written.
            StateReadError: there is no history, or what is to be written is damaged; or all of it is, and a part was pruned,
                which a bundle cannot say; nothing was written.
            StateWriteError: the disk refused; a file that was there is as it was.
            ValueError: the target is a part of the state itself, or of a store.
        """
        place = Path(os.path.abspath(target))
        if version is None:
            with FIRST_USE:
                from gitstate.progress import Telling
            with Telling(progress) as tell:
                self._parts.exporter.bundle(place, tell)
        else:
            self._parts.exporter.bundle_of(version, place)
        return place

    def import_backups(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> ImportReport:
        """Takes in what a state manager that keeps copies has left in `folder`, `.pipeline` beside the state unless given.

        That is `backups/<stem>_YYYYmmdd_HHMMSS_ffffff.json.bak`, each a version with that date, and `transactions.log`,
        JSON lines for the audit trail. The versions are the beginning of a new history; where there is one, they stand
        beside it, by names such as `import/<stem>_YYYYmmdd_HHMMSS_ffffff`. The files stay as they are, and nothing is
        taken in twice, also where a version was pruned, or its name deleted.

        With `dry_run` nothing is changed and nobody waited for: the report says what would be taken in. `progress` is told
        how far that is, never under the state's lock: `"importing"` counts copies, `"reading"` lines of the log. What the
        callback raises comes out as it is, and what was before that is taken in.

        Raises:
            StateReadError: there is no such `folder`, or the system does not let us read a file of it; what was before
                that is taken in.
            StateValidationError: a backup is called `import`, where others are to be; as above.
            StateError: as `transaction`; as above: run again, it goes on from there.
        """
        with FIRST_USE:
            from gitstate.importer import Importer
            from gitstate.legacy import OldLayout
            from gitstate.progress import Telling
        place = Path(os.fspath(folder)) if folder is not None else self._path.parent / ".pipeline"
        old = OldLayout(place, self._path.stem)
        if folder is not None:
            old.refuse_missing()
        with Telling(progress) as tell:
            importer = Importer(old, self._parts.writer, tell)
            return importer.plan() if dry_run else importer.take_in(self._policy.timeout)
