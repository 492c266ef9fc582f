"""What a dashboard shows of a pipeline: its phases and runs, and how far they are."""

from __future__ import annotations

import re
from typing import Any, Final

_PHASE: Final = re.compile(r"phase(\d{1,9})(?:_(\d{1,9}))?")
_FIELDS: Final = ("pipeline_version", "file_id", "created_at", "last_updated")


def summarize(document: dict[str, Any]) -> dict[str, Any]:
    """The phases of `document` in their order, each with `status`, `duration` (seconds) and `errors` (a count).

    `status` is `"unknown"` where a phase does not say; `duration` is None where it does not. The same document's
    `phases` map counts for phases that have no object of their own. `runs` are told of in the same way: the objects of the
    document's `runs` with a status and timestamps, as `gitstate run` puts them there.
    """
    phases = {key: _phase(value) for key, value in document.items() if _PHASE.fullmatch(key)}
    listed = document.get("phases")
    for name, status in listed.items() if isinstance(listed, dict) else ():
        phases.setdefault(name, {"status": status, "duration": None, "errors": 0})
    order = sorted(phases, key=_number)
    summary = {name: document.get(name) for name in _FIELDS}
    return {**summary, "phases": {name: phases[name] for name in order}, "runs": _runs(document)}


def _runs(document: dict[str, Any]) -> dict[str, Any]:
    recorded = document.get("runs")
    found = recorded.items() if isinstance(recorded, dict) else ()
    needed = {"status", "timestamps"}
    return {
        name: _phase(value)
        for name, value in found
        if isinstance(value, dict) and value.keys() >= needed
    }


def _phase(value: object) -> dict[str, Any]:
    phase: dict[str, Any] = value if isinstance(value, dict) else {}
    times = phase.get("timestamps")
    errors = phase.get("errors")
    return {
        "status": phase.get("status") or "unknown",
        "duration": times.get("duration") if isinstance(times, dict) else phase.get("duration"),
        "errors": len(errors) if isinstance(errors, list) else 0,
    }


def _number(name: str) -> tuple[float, int, str]:
    match = _PHASE.fullmatch(name)
    return (int(match[1]), int(match[2] or 0), name) if match else (float("inf"), 0, name)
