"""The Atheris harness of one loader: `python tests/fuzz/harness.py LOADER [options of libFuzzer] [corpus folders]`.

Coverage guides the damage here, which the short run of the tests has not; `python tests/fuzz` runs it for every loader.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))

with atheris.instrument_imports(include=["fastbp"]):
    from fuzz import targets


def main() -> None:
    name, arguments = sys.argv[1], sys.argv[2:]
    with targets.Reader(name) as reader:

        def one_input(data: bytes) -> None:
            reader.read(data)

        atheris.Setup([sys.argv[0], *arguments], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
