"""`python -m ui` is `studio`."""

from ui.cli.main import main

if __name__ == "__main__":
    main()
