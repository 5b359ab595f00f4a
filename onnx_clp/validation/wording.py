"""Words of others made fit for one line: what libraries and models say is data, never layout."""

from __future__ import annotations

import re

_ORT_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_ORT_SOURCE = re.compile(r"/\S*onnxruntime\S*\.(?:cc|h|cpp|cu|hpp):\d+ .*?\) (?=[A-Z])")


def one_line(text: object, limit: int = 300) -> str:
    """`text` in at most `limit` characters on one line, everything unprintable escaped.

    ONNX Runtime's error codes and the source positions in its messages are left out.
    """
    flat = " ".join(str(text)[: 20 * limit].split())
    flat = _ORT_SOURCE.sub("", _ORT_PREFIX.sub("", flat))
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in flat)
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"
