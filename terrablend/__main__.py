"""``python -m terrablend`` is the command line."""

from terrablend.cli import main

main()
