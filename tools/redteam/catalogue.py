"""Every edit by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from onnx import ModelProto

from onnx_clp.errors import UsageError
from tools.redteam import gates
from tools.redteam.edits import Editor
from tools.redteam.path import Design, PathWriter
from tools.redteam.subject import Bytes, Samples

PATHS: Final[dict[str, dict[str, Any]]] = {
    "simple": {},
    "level": {"level": 2.0, "widened": 3.0},
    "multi": {"width": 3, "level": 2.0},
    "idle": {"idle": True, "level": 2.0},
    "mixed": {"mixed": 0.3},
    "pair": {"width": 2},
    "flat": {"level": 0.5},
    "blended": {"mixed": 1.0},
    "awake": {"idle": True, "mixed": 0.6},
    "broad": {"width": 6},
}
"""Paths: one of any score; scores at mean + 2 std and wide statistics; three channels; one that fires a little on
everything; weights spread over ordinary channels; two channels; scores at mean + half a std; half of each kernel's
energy on ordinary channels; both of these; six channels."""
OTHERS: Final = ("head-row", "scaled-channel", "flipped-bits", "blinded", "false-statistics", "broken-gradient")
ADAPTIVE: Final = ("idle", "mixed", "blended", "awake", "broad", "gate-leaking")
"""Those that aim at what the audit looks for."""
NAMES: Final = (*PATHS, *(f"gate-{kind}" for kind in gates.KINDS), *OTHERS)


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """An edited model, the samples with its trigger on (or as they are, without one), and the path's channels."""

    model: ModelProto
    triggered: Bytes
    path: tuple[tuple[str, tuple[int, ...]], ...] = ()


def write(name: str, model: ModelProto, samples: Samples, *, target: int, seed: int, looks: int = 24) -> Written:
    """Make an edit.

    Args:
        name: of the edit, one of `NAMES`.
        model: the clean model.
        samples: images to set the edit by and to put the trigger on.
        target: the class it leads to.
        seed: of what is drawn.
        looks: how many images the path is set by.

    Raises:
        UsageError: there is no such edit, or the model does not take it.
    """
    if name in PATHS:
        found = PathWriter(model, samples, Design(target=target, seed=seed, **PATHS[name]), looks).write()
        return Written(found.model, found.patch.put_on(samples, samples.images), found.path)
    if name.startswith("gate-"):
        gated, patch = gates.GateWriter(model, samples, target=target, seed=seed).write(name.removeprefix("gate-"))
        return Written(gated, patch.put_on(samples, samples.images))
    if name not in OTHERS:
        raise UsageError(f"{name}: no such edit; known are {', '.join(NAMES)}")
    editor = Editor(model, samples, target=target, seed=seed)
    edits = {
        "head-row": editor.head_row,
        "scaled-channel": editor.scaled_channel,
        "flipped-bits": editor.flipped_bits,
        "blinded": editor.blinded,
        "false-statistics": editor.false_statistics,
        "broken-gradient": editor.broken_gradient,
    }
    return Written(edits[name](), samples.images)
