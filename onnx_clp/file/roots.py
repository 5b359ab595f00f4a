"""Which folders may hold data of a model: its own, and the blobs of the Hugging Face cache that its own is a part of.

A snapshot there is a folder of links: models--OWNER--NAME/snapshots/REVISION/… > models--OWNER--NAME/blobs/DIGEST
(huggingface_hub, "Understand caching"). Another repository's blobs hold nothing of the model's.
"""

from __future__ import annotations

import re
from pathlib import Path


def root_of(target: Path, folder: Path) -> Path | None:
    """The folder that holds `target` and may hold data of a model in `folder`; None where it lies elsewhere.

    Both paths are free of links.
    """
    if target.is_relative_to(folder):
        return folder
    blobs = _blobs(folder)
    return blobs if blobs is not None and target.parent == blobs else None


def _blobs(folder: Path) -> Path | None:
    """The blobs of the repository that `folder` is a snapshot of, if it is one."""
    for revision in (folder, *folder.parents):
        repository = revision.parent.parent
        if revision.parent.name == "snapshots" and re.match("(models|datasets|spaces)--", repository.name):
            return repository / "blobs"
    return None
