"""`python -m fastbp` is the command `fastbp`."""

from fastbp.cli import main

main()
