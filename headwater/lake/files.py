"""The few small files beside the tables (format marker, leases), on a disk or in an object store.

Tables are Lance's business; these files need only three things that Lance does not give:
put-if-absent, compare-and-swap, and a listing of directories.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from headwater.errors import MissingExtra


class Files(Protocol):
    """Small files under one root; ``path`` is relative and uses ``/``."""

    def read(self, path: str) -> bytes | None: ...
    def put_new(self, path: str, data: bytes) -> bool: ...
    def swap(self, path: str, old: bytes, new: bytes | None) -> bool: ...
    def folders(self, path: str) -> list[str]: ...


class LocalFiles:
    """Files on a local disk; ``swap`` holds an advisory lock so that read-compare-replace is one step."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> bytes | None:
        try:
            return (self.root / path).read_bytes()
        except FileNotFoundError:
            return None

    def put_new(self, path: str, data: bytes) -> bool:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(target, data) as scratch:
            try:
                # A hard link appears with its whole content or not at all, and never replaces.
                os.link(scratch, target)
            except FileExistsError:
                return False
        return True

    def swap(self, path: str, old: bytes, new: bytes | None) -> bool:
        target = self.root / path
        with self._locked(target):
            if self.read(path) != old:
                return False
            if new is None:
                target.unlink()
                return True
            with _scratch(target, new) as scratch:
                scratch.replace(target)
            return True

    def folders(self, path: str) -> list[str]:
        try:
            return sorted(entry.name for entry in (self.root / path).iterdir() if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    @contextlib.contextmanager
    def _locked(self, target: Path) -> Iterator[None]:
        with target.with_name(f"{target.name}.lock").open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def _scratch(target: Path, data: bytes) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


class ObjectFiles:
    """Files in an object store, through obstore's conditional puts."""

    def __init__(self, uri: str, storage_options: Mapping[str, str]) -> None:
        try:
            import obstore
        except ImportError as error:
            raise MissingExtra.of("obstore", "s3") from error
        self._obstore: Any = obstore
        # Lance and obstore share the Rust object_store crate and so its option names.
        options = {key: value for key, value in storage_options.items() if not key.startswith("allow_http")}
        client = {"allow_http": True} if storage_options.get("allow_http") == "true" else None
        self._store: Any = obstore.store.from_url(uri, config=options or None, client_options=client)

    def _get(self, path: str) -> tuple[bytes, Mapping[str, Any]] | None:
        try:
            found = self._obstore.get(self._store, path)
        except FileNotFoundError:
            return None
        return bytes(found.bytes()), found.meta

    def read(self, path: str) -> bytes | None:
        found = self._get(path)
        return found[0] if found else None

    def put_new(self, path: str, data: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError

        try:
            self._obstore.put(self._store, path, data, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def swap(self, path: str, old: bytes, new: bytes | None) -> bool:
        from obstore.exceptions import PreconditionError

        found = self._get(path)
        if found is None or found[0] != old:
            return False
        if new is None:
            # Object stores have no conditional delete: the caller owns the file, or it would differ.
            self._obstore.delete(self._store, path)
            return True
        version = {"e_tag": found[1].get("e_tag"), "version": found[1].get("version")}
        try:
            self._obstore.put(self._store, path, new, mode=version)
        except PreconditionError:
            return False
        return True

    def folders(self, path: str) -> list[str]:
        prefix = f"{path.rstrip('/')}/" if path else None
        listing = self._obstore.list_with_delimiter(self._store, prefix)
        return sorted(str(name).rstrip("/").rsplit("/", 1)[-1] for name in listing["common_prefixes"])


def open_files(uri: str, storage_options: Mapping[str, str]) -> Files:
    """Return the small-file store of the lake at ``uri``."""
    if "://" in uri and not uri.startswith("file://"):
        return ObjectFiles(uri, storage_options)
    return LocalFiles(Path(uri.removeprefix("file://")))
