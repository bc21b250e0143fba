"""`python -m server` is `limner`."""

from server.cli import main

main()
