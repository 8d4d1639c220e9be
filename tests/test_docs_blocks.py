"""The helper that runs the documentation must not lose a block."""

from pathlib import Path

import pytest
from docs_blocks import anchors, broken_links, links, python_blocks

PAGE = """\
# A page: `code` & more

```python
x = 1
```

- in a list:

  ```python
  y = x + 1
  if y:
      z = 3
  ```

```python no-test
raise RuntimeError
```

````markdown
```python
raise RuntimeError  # shown, not meant to run
```
````

```sh
[not a link](nowhere)
```

See [the other](other.md#there), [`code`](missing.py), ![a (round) picture](p.svg),
[here](#a-page-code--more), [nowhere](#nowhere), `[neither](this)`, <img src="q.png" alt="">, [![badge](b.svg)](https://example.org/).

## Twice
## Twice
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    (tmp_path / "other.md").write_text("# There\n", encoding="utf-8")
    (tmp_path / "p.svg").write_text("", encoding="utf-8")
    return page


def test_python_blocks_in_order(page: Path) -> None:
    assert [(block.source, block.line) for block in python_blocks(page)] == [
        ("x = 1\n", 4),
        ("y = x + 1\nif y:\n    z = 3\n", 10),
    ]


def test_blocks_share_a_namespace_and_errors_name_the_page(page: Path) -> None:
    names: dict = {}
    for block in python_blocks(page):
        block.run(names)
    assert names["z"] == 3
    page.write_text("text\n\n```python\nok = 1\nraise RuntimeError('here')\n```\n", encoding="utf-8")
    with pytest.raises(RuntimeError) as error:
        python_blocks(page)[0].run({})
    last = error.traceback[-1]
    assert Path(last.path) == page and last.lineno + 1 == 5


def test_an_open_fence_is_an_error(page: Path) -> None:
    page.write_text("```python\nx = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 1 is never closed"):
        python_blocks(page)


def test_links(page: Path) -> None:
    assert sorted(links(page)) == [
        "#a-page-code--more",
        "#nowhere",
        "b.svg",
        "https://example.org/",
        "missing.py",
        "other.md#there",
        "p.svg",
        "q.png",
    ]
    assert sorted(broken_links(page)) == ["#nowhere", "b.svg", "missing.py", "q.png"]
    assert anchors(page) == {"a-page-code--more", "twice", "twice-1"}
