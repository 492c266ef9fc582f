"""Views: versions, changes, states and remotes as they are shown, to people and as JSON."""
