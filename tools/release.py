"""What a release says of itself: that its tag, version, citation and changelog agree, and the notes for its page.

    python -m tools.release v0.1.0 > notes.md

`.github/workflows/release.yml` runs it for every tag. It exits with 1, and says why, where something does not agree.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Final

from onnx_clp.version import __version__

ROOT: Final = Path(__file__).parent.parent


def notes(version: str) -> str:
    """What CHANGELOG.md says of a version; "" where it says nothing."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(version)}\b[^\n]*\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return "" if found is None else found[1].strip()


def faults(tag: str) -> list[str]:
    """Why a tag cannot be released; empty where it can."""
    version = tag.removeprefix("v")
    found = [] if tag == f"v{__version__}" else [f"the tag is {tag}, onnx_clp/version.py says {__version__}"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if not notes(version):
        found.append(f"CHANGELOG.md has no entry for {version}")
    if f"## {version} (unreleased)" in changelog:
        found.append(f"CHANGELOG.md calls {version} unreleased")
    if f"version: {version}\n" not in (ROOT / "CITATION.cff").read_text(encoding="utf-8"):
        found.append(f"CITATION.cff has no line version: {version}")
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tag", help="vX.Y.Z")
    tag = parser.parse_args().tag
    wrong = faults(tag)
    for line in wrong:
        print(f"release: {line}", file=sys.stderr)
    if not wrong:
        print(notes(tag.removeprefix("v")))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
