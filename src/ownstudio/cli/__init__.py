"""The command line: `ownstudio serve`, `check`, `key`, `model`.

Modules here import at their top only what the help text needs; what a command works with is imported inside it, so that
`ownstudio --help` and shell completion answer at once. Results go to standard output, everything else to standard
error. Exit status: 0 done, 1 failed, 2 wrong usage or settings.
"""

from ownstudio.cli.main import main

__all__ = ["main"]
