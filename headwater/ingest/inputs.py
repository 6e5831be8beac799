"""Which data files a location means: a file, a folder, a glob, or a list of these."""

from __future__ import annotations

import glob as globbing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headwater.errors import BadInput, UsageError
from headwater.ingest.text import stored_name

Location = str | Path | Sequence[str | Path]
_MAGIC = "*?["


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of rows. ``name`` makes keys: relative to the location, posix, valid UTF-8."""

    path: str
    name: str

    @property
    def size(self) -> int:
        try:
            return os.stat(self.path).st_size  # noqa: PTH116
        except OSError:
            return 0


def data_files(location: Location, wanted: Callable[[str], bool]) -> list[DataFile]:
    """The files of a location, sorted by name, so that the order they were given in does not matter.

    In a folder those whose name is ``wanted``, at any depth; a file named outright is taken as it is.
    Links to files are followed (dataset caches are made of them), links to folders are not.

    Raises
    ------
    BadInput
        Nothing there, or two files with one name, whose rows could not be told apart.
    """
    places = [location] if isinstance(location, str | Path) else list(location)
    if not places:
        raise UsageError("got an empty list of files")
    found: dict[str, DataFile] = {}
    for place in places:
        for file in _of_one(str(place), wanted):
            other = found.setdefault(file.name, file)
            if not Path(other.path).samefile(file.path):
                raise BadInput(
                    f"{other.path} and {file.path} would both be {file.name!r}",
                    hint="ingest the folder that holds both, or each with a source of its own",
                )
    return sorted(found.values(), key=lambda file: file.name)


def _of_one(place: str, wanted: Callable[[str], bool]) -> list[DataFile]:
    if os.path.isdir(place):  # noqa: PTH112
        files = list(_below(place, "", wanted))
        if not files:
            raise BadInput(
                f"no file to read in the folder {place}", hint="name the files with a glob or a list"
            )
        return files
    if os.path.lexists(place):
        return [DataFile(place, stored_name(os.path.basename(place)))]  # noqa: PTH119
    if any(c in place for c in _MAGIC):
        root = _fixed_part(place)
        matches = [m for m in globbing.glob(place, recursive=True) if os.path.isfile(m)]  # noqa: PTH113, PTH207
        if not matches:
            raise BadInput(f"no file matches {place}")
        return [DataFile(m, stored_name(os.path.relpath(m, root)).replace(os.sep, "/")) for m in matches]
    raise BadInput(f"there is no {place}", hint="give a file, a folder or a glob in quotes")


def _below(folder: str, prefix: str, wanted: Callable[[str], bool]) -> Iterator[DataFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    yield from _below(entry.path, f"{prefix}{entry.name}/", wanted)
            elif wanted(entry.name.lower()) and entry.is_file():
                yield DataFile(entry.path, stored_name(prefix + entry.name))


def _fixed_part(pattern: str) -> str:
    """The folder before the first wildcard: names are relative to it."""
    parts = pattern.split("/")
    fixed = []
    for part in parts[:-1]:
        if any(c in part for c in _MAGIC):
            break
        fixed.append(part)
    return "/".join(fixed) or ("/" if pattern.startswith("/") else ".")


def default_source(location: Location, *, needed: bool) -> str:
    """A name for what lies at a location: a file's without its suffixes, or the folder's.

    A list has none, which is an error when it is ``needed`` (the rows do not name their source).
    """
    if not isinstance(location, str | Path):
        places = list(location)
        if len(places) != 1 and not needed:
            return "unnamed"
        if len(places) != 1:
            raise UsageError(
                "a list of files needs a name", hint="give source=… (the same name on every machine)"
            )
        location = places[0]
    place = str(location)
    if not os.path.lexists(place) and any(c in place for c in _MAGIC):
        place = _fixed_part(place)
    path = Path(place)
    if path.is_dir():
        return stored_name(path.resolve().name) or "root"
    return stored_name(path.name).partition(".")[0] or stored_name(path.name)
