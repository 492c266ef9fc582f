"""`python -m gitstate` is the command `gitstate`."""

from gitstate.cli import main

main()
