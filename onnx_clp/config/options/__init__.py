"""The one table of options: the parser, files with options, next steps and their page in the documents come from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from onnx_clp.config.options import deciding, running
from onnx_clp.config.options.option import Option

MODEL: Final[Mapping[str, tuple[Option, ...]]] = {
    "how far it goes by itself": deciding.EFFORT,
    "what is judged": deciding.JUDGED,
    "what is changed": deciding.CHANGED,
    "search for triggers": deciding.SEARCH,
    "validation and evaluation": running.VALIDATION,
    "writing and limits": running.LIMITS,
}
"""By group, in the order of the help text, what decides what happens to a model; a batch hands these on."""

REPORTING: Final = running.REPORTING
FROM_FILE: Final = running.FROM_FILE
OPTIONS: Final = (*(option for group in MODEL.values() for option in group), *REPORTING, *FROM_FILE)
"""All options of a single run."""

OF_CONFIG: Final[Mapping[str, Option]] = {one.field: one for one in OPTIONS if one.field}
"""By the field of `CleanConfig` that it sets."""

HARMLESS: Final = frozenset(one.key for one in OPTIONS if one.harmless)
"""What the `pyproject.toml` of a folder that may be a stranger's may set, by its key there."""
