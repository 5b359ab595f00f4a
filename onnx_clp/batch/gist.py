"""What the table and the page of a batch show of one model's report: a few words, the loss, a small picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from onnx_clp.document.assessment import CHANNELS
from onnx_clp.document.run import Evidence, Picture
from onnx_clp.process.codec import restored
from onnx_clp.report import inverting
from onnx_clp.report.wording import brief

MOST_WORDS: Final = 5
WIDEST: Final = 64
"""Pixels of a picture's longer side; larger ones lose rows and columns."""


def gist(report: Mapping[str, Any]) -> dict[str, Any]:
    """The fields `found`, `loss` and `picture` of a `Record`, from a report as JSON gives it."""
    evidence = [restored(Evidence, one) for one in report["evidence"]]
    briefs = dict.fromkeys(brief(one) for one in evidence if one.kind != CHANNELS)
    prediction = (report["gauge"] or {}).get("prediction")
    return {
        "found": tuple(briefs)[:MOST_WORDS],
        "loss": None if prediction is None else prediction["loss"]["share"],
        "picture": _picture(report["inversion"]),
    }


def _picture(inversion: Mapping[str, Any] | None) -> str:
    """The form by which the likely target stands out most."""
    if inversion is None or inversion["likely"] is None:
        return ""
    forms = [form for one in inversion["results"] if one["target"] == inversion["likely"] for form in one["forms"]]
    known = [form for form in forms if form["z"] is not None]
    if not known:
        return ""
    best = max(known, key=lambda form: form["z"])
    return inverting.sheet([_small(restored(Picture, best["picture"]))])


def _small(picture: Picture) -> Picture:
    step = -(-max(picture.width, picture.height) // WIDEST)
    if step == 1:
        return picture
    return Picture.of(picture.array().transpose(2, 0, 1)[:, ::step, ::step], 0, 255)
