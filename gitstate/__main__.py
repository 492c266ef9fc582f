"""`python -m gitstate` is the command `gitstate`."""

import sys

try:
    from gitstate.cli import main
except KeyboardInterrupt:
    sys.exit(130)

main()
