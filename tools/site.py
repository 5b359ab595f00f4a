"""What MkDocs needs of this repository: pages that lie outside `docs/`, and the notebook, as pages of the site.

`mkdocs.yml` names this file as a hook. README.md becomes the first page. A link to a file of the repository that is no
page of the site becomes plain text, as the site does not know where the repository lies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files of the root that are pages of the site, with their names there."""

_CODE: Final = re.compile(r"`[^`]*`")
NOTEBOOK: Final = "notebook.ipynb"
_LINK: Final = re.compile(r"(?<!\\)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside `docs/`, and the notebook as a page."""
    from mkdocs.structure.files import File

    for source, name in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=linked(text, "")))
    text = notebook(json.loads((ROOT / "docs" / NOTEBOOK).read_text(encoding="utf-8")))
    files.append(File.generated(config, "notebook.md", content=linked(text, "docs")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links out of `docs/` into links within the site."""
    return plain_pipes(markdown if page.file.generated_by is not None else linked(markdown, "docs"))


def plain_pipes(text: str) -> str:
    """Bars in the code of a table's cell, which GitHub wants escaped and Python-Markdown does not."""
    lines = (
        _CODE.sub(lambda found: found[0].replace("\\|", "|"), s) if s.startswith("|") else s for s in text.split("\n")
    )
    return "\n".join(lines)


def linked(text: str, folder: str) -> str:
    """A page whose source lies in a folder of the repository, with its links as the site has them."""
    return _LINK.sub(lambda found: _link(found, folder), text)


def _link(found: re.Match[str], folder: str) -> str:
    name, target, anchor = found[1], found[2], found[3] or ""
    if re.match(r"[a-z]+:", target):
        return found[0]
    path = (ROOT / folder / target).resolve()
    inside = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    if inside == f"docs/{NOTEBOOK}":
        return f"[{name}](notebook.md)"
    if inside in PAGES:
        return f"[{name}]({PAGES[inside]}{anchor})"
    if inside.startswith("docs/"):
        return f"[{name}]({inside.removeprefix('docs/')}{anchor})"
    return name if name.startswith("`") else f"{name} (`{inside}`)"


def notebook(document: dict[str, Any]) -> str:
    """A notebook as a page: its text, its code, and what the code prints."""
    return "\n\n".join(part for cell in document["cells"] for part in _cell(cell)) + "\n"


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell.get("outputs", ()):
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        if text:
            yield f"```text\n{''.join(text).rstrip()}\n```"
