"""Sync: a state's history leaves the machine, and comes to another one. A remote may lag, and is never rewritten."""
