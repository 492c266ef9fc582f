"""Verbs: a function for each, which says to a `PipelineState` what was typed, and shows what came of it."""
