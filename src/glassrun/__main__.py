"""`python -m glassrun` is the command `glassrun`."""

from glassrun.cli import main

main()
