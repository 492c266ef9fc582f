"""Sync: what comes from the repositories of others, and goes to them."""
