"""``release --verify``: is the folder what its manifest says, and the order what the lake holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.digest import ContentDigest
from headwater.errors import BadInput, LakeError, UnknownName
from headwater.release.files import MANIFEST, SUMS, read_manifest, sha256
from headwater.release.order import IDS, ORDER_FILE, StepOf, read_order, table_digest
from headwater.trace.runs import SKIPPED

if TYPE_CHECKING:
    from headwater.lake import Lake


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What was checked. ``problems`` is empty for a release that is whole."""

    folder: str
    run_id: str
    files: int
    bytes: int
    sequences: int
    """Of all orders, read back from Parquet."""
    compared: tuple[str, ...]
    """Orders that were held against their table's digest."""
    not_compared: tuple[str, ...]
    """Orders that could not be, with the reason."""
    problems: tuple[str, ...]
    manifest_sha256: str

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


def verify(folder: str | Path, lake: Lake | None = None) -> VerifyReport:
    """Check a release: every file's size and digest, the order's digest and numbering, the steps' mapping.

    An order that holds all columns of its table proves the table's digest by itself; one of ids only does
    with ``lake``, where the table's own spans are read.

    Raises ``BadInput`` for a folder without a readable manifest.
    """
    place = Path(folder)
    manifest = read_manifest(place)
    problems = list(_files(place, manifest["files"]))
    sequences, compared, left = 0, [], []
    for order in manifest.get("orders", []):
        name = f"{order.get('table')}@{order.get('version')}"
        try:
            sequences += _order(place, order, problems)
            how = _against_table(order, lake, problems)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            problems.append(f"{order.get('folder')}: cannot be read: {str(error).splitlines()[0]}")
            continue
        if how:
            left.append(f"{name}: {how}")
        else:
            compared.append(name)
    return VerifyReport(
        folder=str(place),
        run_id=str(manifest.get("run_id")),
        files=len(manifest["files"]),
        bytes=sum(file["bytes"] for file in manifest["files"]),
        sequences=sequences,
        compared=tuple(compared),
        not_compared=tuple(left),
        problems=tuple(problems),
        manifest_sha256=sha256(place / MANIFEST),
    )


def _files(place: Path, files: list[dict[str, Any]]) -> Iterator[str]:
    listed = {MANIFEST, SUMS}
    for file in files:
        listed.add(file["path"])
        path = place / file["path"]
        if path.is_symlink() or not path.is_file():
            yield f"{file['path']}: is missing"
        elif path.stat().st_size != file["bytes"]:
            yield f"{file['path']}: has {path.stat().st_size:,} bytes, the manifest says {file['bytes']:,}"
        elif (found := sha256(path)) != file["sha256"]:
            yield f"{file['path']}: has SHA-256 {found}, the manifest says {file['sha256']}"
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if (path.is_symlink() or not path.is_dir()) and name not in listed:
            yield f"{name}: is not in the manifest"


def _order(place: Path, order: dict[str, Any], problems: list[str]) -> int:
    """Read an order back: its digest, dense numbers, and steps as the log has them."""
    folder = place / str(order["folder"])
    if not folder.resolve().is_relative_to(place.resolve()):
        raise BadInput(f"{order['folder']} is not inside the release")
    facts = json.loads((folder / ORDER_FILE).read_text(encoding="utf-8"))
    differ = [key for key, value in order.items() if key != "folder" and facts.get(key) != value]
    if differ:
        problems.append(f"{order['folder']}/{ORDER_FILE}: {differ[0]} is not what the manifest says")
    steps = StepOf(_steps(place, order["digest"]))
    digest, rows, dense, mapped = ContentDigest(), 0, True, True
    for batch in read_order(folder):
        digest.add(batch.select(order["columns"]))
        index = batch["sequence_index"].to_numpy()
        dense = dense and bool(np.array_equal(index, np.arange(rows, rows + batch.num_rows)))
        mapped = mapped and batch["step"].equals(steps(batch["sequence_index"]))
        rows += batch.num_rows
    if digest.hex() != order["order_digest"]:
        problems.append(
            f"{order['folder']}: has digest {digest.hex()}, the manifest says {order['order_digest']}"
        )
    if rows != order["num_sequences"] or not dense:
        problems.append(f"{order['folder']}: its sequences are not 0 to {order['num_sequences'] - 1:,}")
    elif not mapped:
        problems.append(f"{order['folder']}: its steps are not those of log/training_steps.parquet")
    return rows


def _steps(place: Path, digest: str) -> pa.Table:
    """The trained steps that stand and read this order, from the released log."""
    import duckdb
    import pyarrow.parquet as pq

    con = duckdb.connect(":memory:")
    try:
        steps = pq.read_table(place / "log" / "training_steps.parquet")
        if "use" not in steps.schema.names:
            steps = steps.append_column("use", pa.nulls(steps.num_rows, pa.string()))
        con.register("steps", steps)
        con.register(
            "runs", pq.read_table(place / "log" / "training_runs.parquet", columns=["attempt", "digest"])
        )
        return con.sql(
            "select step, first_sequence, count from steps "
            "join (select distinct * from runs) using (attempt) "
            f"where stands and digest = $digest and coalesce(\"use\", '') <> '{SKIPPED}'",
            params={"digest": digest},
        ).to_arrow_table()
    finally:
        con.close()


def _against_table(order: dict[str, Any], lake: Lake | None, problems: list[str]) -> str | None:
    """Hold an order against its table's digest; ``None`` when that was done, else why it was not."""
    name = f"{order['table']}@{order['version']}"
    if order["complete"] and order["order_digest"] != order["digest"]:
        found = f"{name} has digest {order['digest']}, the released order {order['order_digest']}"
        problems.append(f"{order['folder']}: {found}")
    if lake is None:
        return None if order["complete"] else "it holds ids only; its table's digest needs the lake (--lake)"
    try:
        table = lake.table(order["table"], version=order["version"])
    except (UnknownName, LakeError):
        return None if order["complete"] else "the lake does not hold this version"
    if table.digest != order["digest"]:
        problems.append(f"{name}: the lake holds digest {table.digest}, the release says {order['digest']}")
        return None
    columns = [n for n in table.schema.names if n in (order["columns"] if order["complete"] else IDS)]
    found = table.digest if order["complete"] else table_digest(table, columns)
    if found != order["order_digest"]:
        problems.append(f"{name}: the lake's order has digest {found}, the release's {order['order_digest']}")
    return None
