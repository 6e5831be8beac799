"""Files of a release: copied with their digests, listed in a manifest that ``sha256sum`` reads too."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from headwater.errors import BadInput, UsageError

MANIFEST = "MANIFEST.json"
SUMS = "SHA256SUMS"
KIND = "headwater release"
FORMAT = 1
"""Of the layout and the manifest; raised when a reader of the old one would be wrong."""


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def described(folder: Path) -> list[dict[str, Any]]:
    """``path`` (relative), ``bytes`` and ``sha256`` of every file below ``folder``, by path."""
    return [
        {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in walk(folder)
    ]


def walk(folder: Path) -> Iterator[Path]:
    """Every regular file below ``folder``, sorted. A link is refused: what it points at may be anything."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise UsageError(f"{path} is a link", hint="copy what it points at, and release that")
        if path.is_file():
            yield path


def copy_folder(source: Path, target: Path) -> None:
    """Copy the regular files of a folder."""
    for path in walk(source):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def write_manifest(folder: Path, facts: dict[str, Any]) -> str:
    """Write ``MANIFEST.json`` and ``SHA256SUMS``; returns the manifest's own sha256."""
    files = described(folder)
    manifest = {"kind": KIND, "format": FORMAT, **facts, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    own = sha256(folder / MANIFEST)
    lines = [f"{file['sha256']}  {file['path']}\n" for file in files] + [f"{own}  {MANIFEST}\n"]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    return own


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a release. Raises ``BadInput`` for a folder that is none, or paths that leave it."""
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{folder} is not a release: cannot read {MANIFEST}",
            hint="headwater release RUN --out DIR makes one",
        ) from error
    if not isinstance(found, dict) or found.get("kind") != KIND or not isinstance(found.get("files"), list):
        raise BadInput(f"{path} is not the manifest of a release", hint=f"its kind would be {KIND!r}")
    if found.get("format") != FORMAT:
        raise BadInput(
            f"{path} has format {found.get('format')!r}, expected {FORMAT}",
            hint="verify it with a newer version",
        )
    if not all(isinstance(order, dict) for order in found.get("orders", [])):
        raise BadInput(f"{path}: its orders are not objects")
    for file in found["files"]:
        if not _is_row(file):
            raise BadInput(f"{path}: {str(file)[:80]!r} does not describe a file of the release")
    return found


def _is_row(file: Any) -> bool:
    if not isinstance(file, dict) or not isinstance(file.get("path"), str):
        return False
    place = PurePosixPath(file["path"])
    inside = not place.is_absolute() and ".." not in place.parts and bool(place.parts)
    return inside and isinstance(file.get("bytes"), int) and isinstance(file.get("sha256"), str)
