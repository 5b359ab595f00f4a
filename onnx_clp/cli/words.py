"""What a word of the command line means; a word without a meaning is an ArgumentTypeError."""

from __future__ import annotations

import argparse
import re

from onnx_clp.config import MOST_THRESHOLDS

GATES = ("suspicious", "unusual", "unjudged")
OLD_GATES = {"pruned": "unusual"}
"""Names of --fail-on that keep working, and what they are called now."""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """NAME:1,3,224,224 as a name and a shape; every size at least 1."""
    name, colon, sizes = text.rpartition(":")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    if not colon or not name or not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME:1,3,224,224")
    return name, shape


def sweep(text: str) -> tuple[float, ...]:
    """1.5:3:0.25 as 1.5, 1.75, … 3.0: in decimals, so that the last is met, and STOP is never passed."""
    from decimal import Decimal

    try:
        start, stop, step = (Decimal(part) for part in text.split(":"))
        sensible = 0 < start <= stop and step > 0 and stop.is_finite()
        if sensible and stop - start < MOST_THRESHOLDS * step:
            return tuple(float(start + place * step) for place in range(int((stop - start) / step) + 1))
    except (ValueError, ArithmeticError):
        sensible = False
    if sensible:
        raise argparse.ArgumentTypeError(f"{text!r} has more than {MOST_THRESHOLDS} steps: take larger ones")
    raise argparse.ArgumentTypeError(f"{text!r} is not of the form START:STOP:STEP, such as 1.5:5:0.25")


def pixel_range(text: str) -> tuple[float, float]:
    """0,255 or -1,1 as two numbers; whether they make a range is the configuration's to say."""
    try:
        low, high = (float(end) for end in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form LOW,HIGH, such as 0,255") from None
    return low, high


def caps(text: str) -> float:
    """A number of standard deviations above 0, or "auto", which is 0: as low as the budget allows."""
    if text == "auto":
        return 0.0
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not found > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number above 0")
    return found


def fail_on(text: str) -> tuple[str, ...]:
    """never, or some of suspicious, unusual and unjudged joined by commas; pruned is an old name of unusual."""
    names = [name.strip() for name in text.split(",")]
    if names == ["never"]:
        return ()
    wrong = [name for name in names if name not in (*GATES, *OLD_GATES)]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is none of never, {', '.join(GATES)}")
    return tuple(dict.fromkeys(names))


def size(text: str) -> int:
    """512, 1.5G or 64MiB as bytes; units are powers of 1,024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:([KMGT])(?:I?B)?|B)?", text.strip().upper(), re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write bytes, or a number with K, M, G or T")
    try:
        return int(float(match[1]) * _UNITS[match[2] or ""])
    except OverflowError:
        raise argparse.ArgumentTypeError("that size is beyond every number of bytes") from None
