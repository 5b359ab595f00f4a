"""Options from a file: the table [tool.onnx-clp] of ./pyproject.toml, or the file that --config names.

A key is a long option without its dashes (and `u`). A flag takes true, a repeatable option a list, every other a
string or a number. The command line wins.

The current folder may be a stranger's. So ./pyproject.toml is read only where it is a regular file below 1 MB, may set
only what `HARMLESS` lists (no path that is written or read, no limit, nothing that leaves a check out), and whatever
it sets is said on standard error. A file that --config names is trusted as the command line is.
"""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from onnx_clp.config.options import HARMLESS
from onnx_clp.errors import UsageError
from onnx_clp.text import shown

HERE: Final = Path("pyproject.toml")
TABLE: Final = "onnx-clp"
LARGEST: Final = 1_000_000
MOST_DOTS: Final = 100
"""In one line: the standard library's parser takes time with the square of a dotted key's length."""
_NEVER: Final = frozenset({"help", "version", "config", "no-config"})


@dataclass(frozen=True, slots=True)
class Settings:
    """One file's options as it has them; `trusted` where the user named the file."""

    path: Path
    values: Mapping[str, object]
    trusted: bool

    def words(self, parser: argparse.ArgumentParser) -> dict[str, list[str]]:
        """What each option would be on a command line, by its destination in the parsed arguments.

        Raises:
            UsageError: a key is unknown, may not be set here, or has a value of the wrong kind.
        """
        known = {name: action for action in parser._actions for name in action.option_strings}
        found: dict[str, list[str]] = {}
        for key, value in self.values.items():
            flag = "-u" if key == "u" else f"--{key}"
            self._check(key, flag in known)
            found[known[flag].dest] = list(self._option(key, flag, known[flag], value))
        return found

    def _check(self, key: str, known: bool) -> None:
        name = shown(key, 60)
        if not known or key in _NEVER:
            raise UsageError(f"{self.path}: there is no option {name} to set; keys are long options without their --")
        if not self.trusted and key not in HARMLESS:
            raise UsageError(
                f"{self.path}: {name} may not be set here, as the folder may be a stranger's; "
                "say it on the command line or in a file for --config"
            )

    def _option(self, key: str, flag: str, action: argparse.Action, value: object) -> Iterator[str]:
        if action.nargs == 0:
            if not isinstance(value, bool):
                raise UsageError(f"{self.path}: {key} must be true or false")
            yield from [flag] * value
        elif isinstance(action, argparse._AppendAction) and isinstance(value, list):
            for item in value:
                yield self._word(key, flag, item)
        else:
            yield self._word(key, flag, value)

    def _word(self, key: str, flag: str, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise UsageError(f"{self.path}: {key} must be a string or a number")
        return f"{flag}{value}" if flag == "-u" else f"{flag}={value}"

    @property
    def notice(self) -> str:
        """What is said on standard error; empty where the file sets nothing."""
        names = ", ".join(sorted(self.values))
        return f"options from {self.path}: {names}" if names else ""


def load(named: Path | None) -> Settings | None:
    """The options of the file `named`; of ./pyproject.toml where None; None where there are none.

    Raises:
        UsageError: the file named cannot be read; either is no TOML, or its table is none.
    """
    if named is None:
        content = _read(HERE, getattr(os, "O_NOFOLLOW", 0))
        if content is None or TABLE.encode() not in content:
            return None
        table = _tool_table(HERE, _parsed(HERE, content))
        return None if table is None else Settings(HERE, table, trusted=False)
    content = _read(named, 0)
    if content is None:
        raise UsageError(f"--config {shown(str(named))}: is no readable file below {LARGEST:,} bytes")
    whole = _parsed(named, content)
    own = _tool_table(named, whole) if "tool" in whole else whole
    return Settings(named, own or {}, trusted=True)


def _read(path: Path, flags: int) -> bytes | None:
    """The content of a regular file below 1 MB; None where it is none. Never waits on a FIFO."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | flags)
    except (OSError, ValueError):
        return None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size >= LARGEST:
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            content = stream.read(LARGEST)
        return content if len(content) < LARGEST else None
    finally:
        os.close(descriptor)


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    import tomllib

    if max(line.count(b".") for line in content.splitlines() or [b""]) > MOST_DOTS:
        raise UsageError(f"{path}: a line has more than {MOST_DOTS} dots; mend it, or ignore it with --no-config")
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        reason = shown(str(error), 100)
        raise UsageError(f"{path}: not valid TOML ({reason}); mend it, or ignore it with --no-config") from error


def _tool_table(path: Path, whole: Mapping[str, Any]) -> Mapping[str, object] | None:
    tool = whole.get("tool")
    table = tool.get(TABLE) if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise UsageError(f"{path}: tool.{TABLE} must be a table")
    return table
