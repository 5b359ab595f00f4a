"""The pages of `docs/` that are made from the program: the command line, and the form of the JSON report.

    python -m tools.pages           # write them
    python -m tools.pages --check   # exit with 1 where one is not as it would be written

What stands outside the marks of a page is written by hand and stays.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from onnx_clp.batch.options import batch_parser
from onnx_clp.config.options import FROM_FILE, MODEL, REPORTING
from onnx_clp.config.options.option import Option
from onnx_clp.errors import EXIT_CODES

ROOT: Final = Path(__file__).parent.parent
DOCS: Final = ROOT / "docs"
WIDTH: Final = 128
BEGIN, END = "<!-- written by tools/pages.py -->", "<!-- end -->"

MORE: Final = {
    "--rule": "what-a-result-means.md#the-rules",
    "--invert": "inversion.md",
    "--audit": "redteam.md",
    "--patch-bound": "redteam.md#bounds",
    "--images": "photographs.md",
    "--compact": "edge.md",
    "--compact-multiple": "edge.md#multiples-of-8",
    "--cleanup": "edge.md#what-is-taken-out",
    "--compare-providers": "gpu.md",
    "--config": "configuration.md",
    "--attestation": "attestation.md",
}
"""Where more is said of an option."""


def command_line() -> str:
    """The options in tables, group by group, and the exit codes."""
    groups: dict[str, tuple[Option, ...]] = {**MODEL, "reporting": REPORTING, "options from a file": FROM_FILE}
    parts = [_table(f"## {title.capitalize()}", map(_row, options)) for title, options in groups.items()]
    parts.append(
        _table(
            "## Batch",
            _batch_rows(),
            f"`onnx-clp batch [options] IN OUT` takes the options of the first {len(MODEL)} tables, and:",
        )
    )
    codes = (f"| {code} | {_cell(meaning)} |" for code, meaning in EXIT_CODES)
    parts.append("\n".join(["## Exit codes", "", "| code | meaning |", "|---|---|", *codes]))
    return "\n\n".join(parts)


def _table(title: str, rows: Iterator[str], text: str = "") -> str:
    said = [text, ""] if text else []
    return "\n".join([title, "", *said, "| option | what it does |", "|---|---|", *rows])


def _row(option: Option) -> str:
    value = f" {' | '.join(option.choices) if option.choices else option.metavar or ''}".rstrip()
    names = ", ".join(f"`{name}`" for name in (option.short, f"{option.name}{value}") if name)
    more = f" ([more]({MORE[option.name]}))" if option.name in MORE else ""
    return f"| {_cell(names)} | {_cell(option.help)}{more} |"


def _batch_rows() -> Iterator[str]:
    known = {one.name for group in MODEL.values() for one in group}
    for action in batch_parser()._actions:
        if action.option_strings and not known & set(action.option_strings) and action.dest != "help":
            names = ", ".join(f"`{name}`" for name in action.option_strings)
            yield f"| {_cell(names)} | {_cell(action.help or '')} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def report_format() -> str:
    """Every kind of object of the JSON report, with its fields."""
    schema = json.loads((ROOT / "onnx_clp" / "report" / "schema.json").read_text(encoding="utf-8"))
    parts = [_object("The report", schema)]
    parts += [_object(name, found) for name, found in sorted(schema["$defs"].items()) if "properties" in found]
    return "\n\n".join(parts)


def _object(title: str, schema: Mapping[str, Any]) -> str:
    rows = (
        f"| `{name}` | {_kind(one)} | {_cell(one.get('description', ''))} |"
        for name, one in schema["properties"].items()
    )
    said = textwrap.fill(_cell(schema.get("description", "")), WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f"## {title}", "", said, "", "| field | type | meaning |", "|---|---|---|", *rows])


def _kind(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_kind(one) for one in schema[key]))
    if "enum" in schema:
        return "one of " + ", ".join(f"`{json.dumps(one)}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    kind = schema.get("type", "any")
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    inner = schema.get("items")
    return f"{words} of {_kind(inner)}" if isinstance(inner, dict) else words


PAGES: Final = {"command-line.md": command_line, "report-format.md": report_format}


def written(name: str) -> str:
    """A page as it should be: what is between the marks made anew."""
    text = (DOCS / name).read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"docs/{name}: the marks {BEGIN} and {END} are not there")
    return f"{before}{BEGIN}\n\n{PAGES[name]()}\n\n{END}{after}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = [name for name in PAGES if written(name) != (DOCS / name).read_text(encoding="utf-8")]
    for name in stale:
        if check:
            print(f"docs/{name} is not as tools.pages writes it", file=sys.stderr)
        else:
            (DOCS / name).write_text(written(name), encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
