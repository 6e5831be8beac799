"""An export's folder: made beside its target, and put in its place when it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError, UsageError

MANIFEST = "manifest.json"
MANIFEST_KIND = "headwater export"


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """One file of an export, its path relative to the export's folder."""

    path: str
    rows: int
    bytes: int
    sha256: str


def described(folder: Path, path: Path, rows: int) -> ExportedFile:
    """The facts of one finished file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportedFile(
        path=path.relative_to(folder).as_posix(), rows=rows, bytes=path.stat().st_size, sha256=digest
    )


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Say what the export is, in ``manifest.json``."""
    text = json.dumps(facts, indent=2, sort_keys=True) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def target_folder(to: str | Path, overwrite: bool) -> Path:
    """Where an export goes. Raises ``UsageError`` where something is in the way."""
    if "://" in str(to):
        raise UsageError(f"{to} is not a folder", hint="export to a local folder, then copy it")
    target = Path(to).absolute()
    if not target.exists():
        return target
    if not target.is_dir() or target.is_symlink():
        raise UsageError(f"{to} is in the way", hint="name a folder that is not there yet")
    if not any(target.iterdir()):
        return target
    if not overwrite:
        raise UsageError(f"{to} is not empty", hint="name another folder, or --overwrite an earlier export")
    if not _is_export(target):
        raise UsageError(
            f"{to} is not an export of Headwater's, so it is not overwritten", hint="name another folder"
        )
    return target


def _is_export(folder: Path) -> bool:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("kind") == MANIFEST_KIND


@contextlib.contextmanager
def whole_folder(target: Path, overwrite: bool) -> Iterator[Path]:
    """A new folder beside ``target`` that takes its place at the end of the block, or is removed."""
    made = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        yield made
        made.chmod(0o755)  # mkdtemp's folders are private
        if overwrite and target.exists() and any(target.iterdir()):
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
            target.rename(old)
            made.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            made.rename(target)  # over an empty folder or none; fails when one was filled meanwhile
    except OSError as error:
        raise HeadwaterError(f"cannot write the export to {target}: {error.strerror or error}") from error
    finally:
        if made is not None and made.exists():
            shutil.rmtree(made, ignore_errors=True)
