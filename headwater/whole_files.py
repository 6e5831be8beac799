"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headwater.errors import BadInput


@contextmanager
def whole_file(path: Path, what: str = "") -> Iterator[Path]:
    """A path beside ``path`` to write to: it takes the place of ``path`` when the block ends well.

    Folders are made. ``what`` says in an error what is written ("the report").

    Raises
    ------
    BadInput
        The file cannot be written there; nothing of it is left.
    """
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        os.replace(scratch, path)  # noqa: PTH105 - Path.replace is the same call with less said
    except OSError as error:
        scratch.unlink(missing_ok=True)
        where = f"{what} to {path}" if what else str(path)
        raise BadInput(f"cannot write {where}: {error.strerror or error}") from error


@contextmanager
def whole_folder(target: Path, *, holds: str) -> Iterator[Path]:
    """A folder beside ``target`` to fill with files: it becomes ``target`` when the block ends well.

    All may read it: a cache may be shared, and ``mkdtemp`` and safetensors write for their owner alone.
    A ``target`` that another process made meanwhile, and that holds the file ``holds``, stays.

    Raises
    ------
    BadInput
        The folder cannot be put there; nothing of it is left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield made
        made.chmod(0o755)
        for each in made.iterdir():
            each.chmod(0o644)
        try:
            made.rename(target)
        except OSError as error:
            if not (target / holds).exists():
                raise BadInput(f"cannot write {target}: {error.strerror}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
