"""Read the Python code blocks, links and headings out of a Markdown page, so that tests can hold it to them."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_FENCE = re.compile(r"[ \t]*(?P<mark>`{3,}|~{3,})[ \t]*(?P<info>[^`]*)$")
_LINK = re.compile(
    r"(?<![\\!])\[(?:[^\[\]]|\[[^\[\]]*\](?:\([^()]*\))?)*\]\((?P<target>[^()\s]+)(?:[ \t]+\"[^\"]*\")?\)"
)
_IMAGE = re.compile(r"!\[[^\[\]]*\]\((?P<target>[^()\s]+)(?:[ \t]+\"[^\"]*\")?\)")
_HTML = re.compile(r"<(?:img|a|source)\b[^>]*?\b(?:src|href|srcset)=\"(?P<target>[^\"\s]+)\"")


class Block(NamedTuple):
    """One fenced code block: its source, the line of the page where it starts (1-based), and the page."""

    source: str
    line: int
    page: Path

    def run(self, namespace: dict[str, Any]) -> None:
        """Execute the block in `namespace`; a traceback names the page and the page's own line."""
        source = "\n" * (self.line - 1) + self.source
        exec(compile(source, str(self.page), "exec"), namespace)


def _parts(page: Path) -> Iterator[tuple[str | None, int, list[str]]]:
    """The page as runs of lines: (info string of the fence, None for prose; number of the first line; lines)."""
    info: str | None = None
    mark, start = "", 1
    run: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if fence and (not mark or (not fence["info"] and fence["mark"].startswith(mark))):
            yield info, start, run
            info, mark = (None, "") if mark else (fence["info"].strip(), fence["mark"])
            start, run = number + 1, []
        else:
            run.append(line)
    if mark:
        # Everything below it would silently go untested.
        raise ValueError(f"{page}: the code block that starts in line {start - 1} is never closed")
    yield info, start, run


def python_blocks(page: Path) -> list[Block]:
    """The ```python blocks of `page`, in order; those marked ```python no-test are left out.

    Raises ValueError for a fence that is never closed.
    """
    return [
        Block(textwrap.dedent("\n".join(lines) + "\n"), start, page)
        for info, start, lines in _parts(page)
        if info is not None and info.split()[:1] == ["python"] and "no-test" not in info.split()
    ]


def prose(page: Path) -> str:
    """The text of `page` without its fenced code blocks."""
    return "\n".join("\n".join(lines) for info, _, lines in _parts(page) if info is None)


def links(page: Path) -> list[str]:
    """The targets of all links and images of `page`, Markdown and HTML, as written."""
    text = prose(page)
    text = re.sub(r"\[`[^`\n]*`\]", "[code]", text)  # a link may show code; other code holds no links
    text = re.sub(r"`[^`\n]*`", "", text)
    return [found["target"] for kind in (_LINK, _IMAGE, _HTML) for found in kind.finditer(text)]


def anchors(page: Path) -> set[str]:
    """The anchors that the headings of `page` get on GitHub."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", prose(page), flags=re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        unique, count = slug, 0
        while unique in found:
            count += 1
            unique = f"{slug}-{count}"
        found.add(unique)
    return found


def broken_links(page: Path) -> list[str]:
    """The links and images of `page` that lead nowhere: a missing file, or an anchor that no heading has.

    Addresses on the network are not fetched.
    """
    broken = []
    for target in links(page):
        if re.match(r"[a-z][a-z0-9+.\-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = page.parent / path if path else page
        if not aim.exists() or (anchor and aim.suffix == ".md" and anchor not in anchors(aim)):
            broken.append(target)
    return broken
