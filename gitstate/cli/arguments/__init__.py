"""Arguments: what is typed for a version or a place, and what the shell offers for it."""
