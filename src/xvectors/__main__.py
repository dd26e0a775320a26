"""`python -m xvectors` is the command `xvectors`."""

from xvectors.cli import main

main()
