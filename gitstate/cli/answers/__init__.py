"""Answers: what is asked of a state: how it stands, what changed, where a value comes from."""
