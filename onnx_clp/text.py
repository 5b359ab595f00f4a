"""Names and paths as they may be shown: whatever a file calls its parts, one line of plain, readable text.

A model chooses the names of its nodes, tensors and functions, so a name is data: it may hold terminal
escapes, line breaks that forge a log line, characters that turn the reading direction, or ten megabytes.
What `shown` returns holds printable characters only. It does not know its sink: HTML and rich markup have
signs of their own, which whoever writes those sinks escapes on top.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

LIMIT = 80
PATH_LIMIT = 400
SENTENCE_LIMIT = 400

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}
_ORT_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_ORT_SOURCE = re.compile(r"/\S*onnxruntime\S*\.(?:cc|h|cpp|cu|hpp):\d+ .*?\) (?=[A-Z])")
# Printable by Unicode's letter, yet drawn as nothing or onto the character before.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10))))


def shown(name: str | bytes, limit: int = LIMIT) -> str:
    """Return `name` on one line of at most `limit` printable characters, the middle left out if need be.

    Control characters (C0, C1, ESC, DEL), bidirectional and other invisible format characters, line and
    paragraph separators, lone surrogates and unassigned code points come out as backslash escapes, and a
    backslash as two, so that different names of moderate length look different. A mark by which a
    continuous-integration log takes a line for a command (`::` in front, `##[` anywhere) is broken up.
    Bytes that are not UTF-8 show as `\\udc80` to `\\udcff`. Time and memory depend on `limit` alone.
    """
    if len(name) <= limit:
        units = _units(_text(name))
        if sum(map(len, units)) <= limit:
            return "".join(units)
        return _clip(units, limit // 2) + "…" + _clip(units[::-1], limit - limit // 2 - 1, backwards=True)
    head, tail = _units(_text(name[:limit])), _units(_text(name[-limit:]))
    return _clip(head, limit // 2) + "…" + _clip(tail[::-1], limit - limit // 2 - 1, backwards=True)


def shown_path(path: os.PathLike[str] | str) -> str:
    """Return a path as `shown` does, with room for a long one."""
    return shown(os.fspath(path), PATH_LIMIT)


def one_line(text: str, limit: int = SENTENCE_LIMIT) -> str:
    """A sentence on one printable line of at most `limit` characters.

    Unlike `shown` it leaves backslashes alone, so that the escapes of a name quoted in it stay as they are.
    """
    line = "\\".join(shown(part, 12 * limit) for part in text[: limit + 1].split("\\"))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def quoted(text: object, limit: int = 300) -> str:
    """`text` in at most `limit` characters on one line, everything unprintable escaped.

    ONNX Runtime's error codes and the source positions in its messages are left out.
    """
    flat = " ".join(str(text)[: 20 * limit].split())
    flat = _ORT_SOURCE.sub("", _ORT_PREFIX.sub("", flat))
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in flat)
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


def _units(text: str) -> list[str]:
    return list(_escaped(text))


def _escaped(text: str) -> Iterator[str]:
    for at, char in enumerate(text):
        if char in _SHORT:
            yield _SHORT[char]
        elif not char.isprintable() or char in _UNSEEN or _starts_command(text, at):
            yield _code(char)
        else:
            yield char


def _starts_command(text: str, at: int) -> bool:
    return text.startswith("##[", at) or (text.startswith("::", at) and not text[:at].strip())


def _code(char: str) -> str:
    point = ord(char)
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _clip(units: list[str], room: int, *, backwards: bool = False) -> str:
    kept: list[str] = []
    for unit in units:
        room -= len(unit)
        if room < 0:
            break
        kept.append(unit)
    return "".join(reversed(kept) if backwards else kept)
