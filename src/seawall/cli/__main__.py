"""`python -m seawall.cli`."""

from seawall.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
