"""The schema of `pipeline.json`, and validation against it or against a model of the user's own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from gitstate.first_use import FIRST_USE
from gitstate.schema.summary import summarize

if TYPE_CHECKING:
    from gitstate.schema.pipeline import PipelineSchema
    from gitstate.schema.validation import validate

__all__ = ["PipelineSchema", "summarize", "validate"]

_HOMES: Final = {"PipelineSchema": "pipeline", "validate": "validation"}
"""Where the names are that take pydantic's models, for which a summary need not wait."""


if not TYPE_CHECKING:  # type checkers would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        with FIRST_USE:
            value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
