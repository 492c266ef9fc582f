"""Process: programs that run in the place of this one: a command, an editor."""
