"""Packages that fastbp can do without, until somebody asks for what they do."""

import importlib.util

from fastbp.errors import FastbpError


def need(package: str, what: str, advice: str) -> None:
    """FastbpError if `what` cannot be done, because the package is not installed; it says what to do."""
    if importlib.util.find_spec(package) is None:
        raise FastbpError(f"{what} needs {package}, which is not installed; {advice}")


def need_matplotlib(what: str) -> None:
    need("matplotlib", what, "pip install 'fastbp[plot]'")


def need_pandas() -> None:
    need("pandas", "to_frame", "pip install pandas, or use to_csv")
