"""The schema of `pipeline.json`, and validation against it or against a model of the user's own."""

from gitstate.schema.pipeline import PipelineSchema
from gitstate.schema.summary import summarize
from gitstate.schema.validation import validate

__all__ = ["PipelineSchema", "summarize", "validate"]
