"""``kind="python"``: the standard library and every installed distribution of this interpreter."""

from __future__ import annotations

import json
import os
import platform
import re
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from packaging.utils import canonicalize_name

from headwater.ingest.files import read_files, stored_size, walk_files
from headwater.ingest.text import stored_name
from headwater.ingest.whole import Entry, Task
from headwater.licenses import normalize, shorten

STDLIB = "stdlib"
STDLIB_LICENSE = "PSF-2.0"
"""SPDX id of the terms under which CPython is distributed (its LICENSE, "PSF License Version 2")."""
SOURCE_PREFIX = "pypi:"
_OWN_NAME = "headwater"
_LICENSE_BYTES = 1 << 18
"""Read of a license file: twice the longest of the SPDX list."""


class PythonReader:
    """The ``.py`` files of the running interpreter, source by source, sorted.

    A distribution is read from its own record of files, so that what lies beside it is not taken for
    its. Left out: links and everything outside the folder it is installed in; editable installs, whose
    record names a stub; and Headwater itself, so that the corpus does not change with the tool.
    """

    layout: str | None = None
    sources: frozenset[str] | None = None
    source_prefix: str | None = SOURCE_PREFIX

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    def _entries(self) -> Iterator[Entry]:
        found = _distributions()
        for source in sorted([*found, STDLIB]):
            yield from _stdlib() if source == STDLIB else _files_of(found[source], source)

    def total_bytes(self) -> int | None:
        return sum(stored_size(entry.path) for entry in self._entries())

    def tasks(self) -> Iterator[Task]:
        return read_files(self._entries(), self._max_bytes)


def _stdlib() -> Iterator[Entry]:
    root = os.path.realpath(sysconfig.get_path("stdlib"))
    facts = json.dumps({"version": platform.python_version()})
    skipped = ("site-packages/", "dist-packages/")

    def wanted(name: str) -> bool:
        return name.endswith(".py") and not name.startswith(skipped)

    for path, name, problem in walk_files(root, wanted):
        if problem is None:
            yield Entry(path, stored_name(name), STDLIB, STDLIB_LICENSE, facts)


def _distributions() -> dict[str, metadata.Distribution]:
    """Source name -> distribution; of two with one name the first on the path counts, as for import."""
    found: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"] if distribution.metadata else None
        if not name or canonicalize_name(name) == _OWN_NAME or _is_editable(distribution):
            continue
        found.setdefault(f"{SOURCE_PREFIX}{canonicalize_name(name)}", distribution)
    return found


def _is_editable(distribution: metadata.Distribution) -> bool:
    """PEP 610: ``direct_url.json`` says so."""
    try:
        record = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return False
    return bool(isinstance(record, dict) and record.get("dir_info", {}).get("editable"))


def _files_of(distribution: metadata.Distribution, source: str) -> Iterator[Entry]:
    root = os.path.realpath(str(distribution.locate_file("")))
    declared = declared_license(distribution.metadata)
    facts = json.dumps({"version": distribution.version, **_license_file(distribution, root)})
    folders: dict[str, bool] = {}
    names = {str(file) for file in distribution.files or () if str(file).endswith(".py")}
    for name in sorted(names):
        path = os.path.join(root, name)  # noqa: PTH118 (a path object per file is slow)
        if not _is_own(path, name, root, folders):
            continue
        yield Entry(path, stored_name(name), source, declared, facts)


def _license_file(distribution: metadata.Distribution, root: str) -> dict[str, str]:
    """What the license file among the package's metadata says, and which it is: ``{}`` where none does."""
    from headwater.licenses.nearest import LICENSE_FILE, license_of_package  # needs Polars

    folders: dict[str, bool] = {}
    texts: dict[str, str] = {}
    for name in sorted(str(file) for file in distribution.files or ()):
        path = os.path.join(root, name)  # noqa: PTH118
        inside = re.match(r"[^/]+\.(?:dist|egg)-info/(?:licenses/)?[^/]+$", name)
        if inside and re.search(LICENSE_FILE, name) and _is_own(path, name, root, folders):
            with open(path, "rb") as file:  # noqa: PTH123
                texts[stored_name(name)] = file.read(_LICENSE_BYTES).decode("utf-8", errors="replace")
    found = license_of_package(list(texts), list(texts.values())) if texts else None
    return {"license_file": found[0], "license_file_spdx": found[1]} if found else {}


def _is_own(path: str, name: str, root: str, folders: dict[str, bool]) -> bool:
    """A regular file inside ``root``, with no ``..`` and no link on the way."""
    if os.path.isabs(name) or ".." in name.split("/"):  # noqa: PTH117
        return False
    folder = os.path.dirname(path)  # noqa: PTH120
    if folder not in folders:
        real = os.path.realpath(folder)
        folders[folder] = real == root or real.startswith(root + os.sep)
    return folders[folder] and os.path.isfile(path) and not os.path.islink(path)  # noqa: PTH113, PTH114


def declared_license(facts: Any) -> str | None:
    """What core metadata say: ``License-Expression``, else ``License``, else the license classifiers.

    A ``License`` field that names nothing (``Dual License``, a text of many licenses) gives way to
    classifiers that do. Several classifiers are joined by ``; ``.
    """
    expression = (facts.get("License-Expression") or "").strip()
    if expression:
        return shorten(expression)
    text = (facts.get("License") or "").strip()
    named = [c.strip() for c in facts.get_all("Classifier") or () if c.strip().startswith("License ::")]
    classifiers = "; ".join(sorted(named))
    text = "" if text.upper() == "UNKNOWN" else shorten(text)
    if text and (normalize(text) or not normalize(classifiers)):
        return text
    return classifiers or text or None
