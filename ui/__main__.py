"""`python -m ui` is `studio`."""

from ui.cli.main import main

main()
