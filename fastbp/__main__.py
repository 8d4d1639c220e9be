"""The command `fastbp`, and `python -m fastbp`."""

import sys


def main() -> None:
    """The entry point of the command line."""
    try:
        from fastbp.cli import main as run
    except KeyboardInterrupt:  # while libraries load, which takes a quarter of a second
        print("fastbp: stopped", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
