"""Times: moments and durations, as people read and write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import click

_AGO: Final = re.compile(
    r"(\d{1,9})\s*\.?\s*(?:(s|sec|seconds?)|(m|min|minutes?)|(h|hours?)|(d|days?)|(w|weeks?))(?:[ .]ago)?"
)
_UNITS: Final = (1, 60, 3600, 86400, 604800)
_STEPS: Final = ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (30 * 86400, 86400, "d"))


def moment(text: str) -> datetime:
    """The moment that `text` names: ISO 8601, in the zone of this machine unless it says its own, or `90min`, `2h ago`.

    Raises:
        ValueError: it names none.
    """
    text = text.strip()
    if text == "now":
        return datetime.now(UTC)
    try:
        if match := _AGO.fullmatch(text):
            count, *named = match.groups()
            unit = next(unit for unit, name in zip(_UNITS, named, strict=True) if name)
            return datetime.now(UTC) - timedelta(seconds=int(count) * unit)
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else found.astimezone()
    except OverflowError as error:
        raise ValueError(f"too far away: {text}") from error


class Moment(click.ParamType[datetime]):
    """A moment, as `moment` reads it."""

    name = "moment"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The moment that was typed; wrong usage where it is none."""
        try:
            return moment(value)
        except ValueError:
            self.fail(f"{value!r} names no moment: 2026-11-27T10:00, 90min, 2d", param, ctx)


def exact(moment: datetime) -> str:
    """RFC 3339, in UTC, as JSON output has it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago that was: `3 min ago`; the date behind a month."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if seconds < 0:
        return moment.astimezone().strftime("%Y-%m-%d %H:%M")
    for most, unit, name in _STEPS:
        if seconds < most:
            count = int(seconds // unit)
            return "now" if not count and unit == 1 else f"{count} {name} ago"
    return moment.astimezone().strftime("%Y-%m-%d")


def shown(moment: datetime, *, exactly: bool) -> str:
    """How long ago that was; `exactly` the moment, to the millisecond, in the zone of this machine."""
    if exactly:
        return moment.astimezone().isoformat(sep=" ", timespec="milliseconds")
    return ago(moment)


def duration(seconds: float) -> str:
    """`850 ms`, `3.2 s`, `12 min 05 s`, `3 h 20 min`, `2 d 4 h`."""
    if round(seconds * 1000) < 1000:
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: float) -> str:
    """`812 B`, `43 KB`, `1.2 MB`: powers of 1,000."""
    for unit in ("B", "KB", "MB", "GB"):
        if round(count) < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or round(count, 1) >= 10 else f"{count:.1f} {unit}"
