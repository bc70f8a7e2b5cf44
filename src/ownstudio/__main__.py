"""`python -m ownstudio` is the command `ownstudio`."""

from ownstudio.cli import main

main()
