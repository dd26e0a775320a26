"""`python -m xvectors.cli` is the command `xvectors`."""

from xvectors.cli import main

main()
