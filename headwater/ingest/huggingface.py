"""``kind="huggingface"``: data set folders as ``save_to_disk`` writes them, or as the hub keeps them.

``save_to_disk`` leaves ``dataset_info.json``, ``state.json`` and Arrow streams, and for a ``DatasetDict`` one
such folder a split, listed in ``dataset_dict.json``. The hub keeps Parquet files, one or more a split. A
row's ``split`` and the license of the data set go into its metadata: a license of a collection need not be
its
rows'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headwater.errors import BadInput, UsageError
from headwater.ingest.arrow import ArrowReader
from headwater.ingest.inputs import DataFile, Location
from headwater.ingest.parquet import ParquetReader
from headwater.ingest.tables import TableFiles
from headwater.ingest.text import stored_name

MARKS = ("dataset_info.json", "dataset_dict.json", "state.json")
"""Files that make a folder certainly one that ``save_to_disk`` wrote."""
_MAX_JSON_BYTES = 16 << 20
_MAX_FILES = 1_000_000
_HUB_SPLIT = re.compile(r"(?:^|/)([A-Za-z0-9_.]+?)(?:-\d{5}-of-\d{5}[^/]*)?\.parquet$")
_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation")
_CARD_LICENSE = re.compile(
    r"\A---\n.{0,20000}?^license:[ \t]*['\"]?([\w.+ -]{1,60})", re.DOTALL | re.MULTILINE
)


def dataset_reader(location: Location, **common: Any) -> TableFiles:
    """The reader for one data set folder. Raises BadInput where it holds neither layout."""
    if not isinstance(location, str | Path):
        raise UsageError("huggingface takes one folder")
    folder = Path(location)
    if not folder.is_dir():
        raise BadInput(
            f"{location} is not a folder", hint="give the folder that save_to_disk or the hub wrote"
        )
    if is_saved(folder):
        return _Saved(folder, **common)
    return _Hub(folder, **common)


def is_saved(folder: Path) -> bool:
    """Was the folder written by ``save_to_disk``?"""
    return any((folder / mark).is_file() for mark in MARKS)


class _Saved(ArrowReader):
    """Only the files that ``state.json`` lists: beside them lie caches of earlier operations."""

    def _find(self, location: Location) -> list[DataFile]:
        folder = Path(str(location))
        splits = [""]
        if (folder / "dataset_dict.json").is_file():
            found = _json(folder / "dataset_dict.json").get("splits")
            splits = [_plain_name(split, folder) for split in _list(found, folder)]
        self._facts = {split: _info(folder / split) for split in splits}
        return [file for split in sorted(splits) for file in _listed(folder, split)]

    def _constants(self, file: DataFile) -> Mapping[str, str]:
        split = file.name.rpartition("/")[0]
        facts = self._facts.get(split, {})
        return {"split": split or facts.get("split", ""), "dataset_license": facts.get("license", "")}


class _Hub(ParquetReader):
    """Parquet files at any depth, as ``data/train-00000-of-00002.parquet``."""

    def _find(self, location: Location) -> list[DataFile]:
        self._license = _card_license(Path(str(location)))
        return super()._find(location)

    def _constants(self, file: DataFile) -> Mapping[str, str]:
        return {"split": _hub_split(file.name), "dataset_license": self._license}


def _hub_split(name: str) -> str:
    found = _HUB_SPLIT.search(name)
    if found is None:
        return ""
    folders = [part for part in name.split("/")[:-1] if part in _SPLITS]
    is_numbered = found[0].strip("/") != f"{found[1]}.parquet"
    return found[1] if is_numbered or found[1] in _SPLITS else (folders[-1] if folders else "")


def _listed(folder: Path, split: str) -> list[DataFile]:
    place = folder / split
    files = _json(place / "state.json").get("_data_files")
    prefix = f"{split}/" if split else ""
    found = []
    for one in _list(files, place):
        name = _plain_name(one.get("filename") if isinstance(one, dict) else one, place)
        if not (place / name).is_file():
            raise BadInput(f"{place / 'state.json'} lists {name!r}, which is not there")
        found.append(DataFile(str(place / name), stored_name(prefix + name)))
    if not found:
        raise BadInput(f"{place / 'state.json'} lists no data files")
    return found


def _plain_name(name: object, where: Path) -> str:
    """A name of something in the folder: not a path, which could lead out of it."""
    if (
        not isinstance(name, str)
        or not name
        or name in (".", "..")
        or "/" in name
        or "\\" in name
        or "\0" in name
    ):
        raise BadInput(f"{where} names {str(name)[:100]!r}, which is no file of its own")
    return name


def _list(value: object, where: Path) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MAX_FILES:
        raise BadInput(f"{where} is no saved data set: its files or splits are not a list")
    return value


def _info(place: Path) -> dict[str, str]:
    """License and split as far as the data set says."""
    if not (place / "dataset_info.json").is_file():
        return {}
    license_text = _json(place / "dataset_info.json").get("license")
    split = _json(place / "state.json").get("_split") if (place / "state.json").is_file() else None
    said = {"license": license_text, "split": split}
    return {name: value[:200] for name, value in said.items() if isinstance(value, str) and value}


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise BadInput(f"{path} is larger than {_MAX_JSON_BYTES} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"cannot read {path}: {error}") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds no JSON object")
    return found


def _card_license(folder: Path) -> str:
    """``license:`` of the data set card's header."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            found = _CARD_LICENSE.match(file.read(20_000))
    except OSError:
        return ""
    return found[1].strip() if found else ""
