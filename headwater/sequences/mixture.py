"""Mixtures: parts of a corpus with shares that are exact in tokens, and a cap on repetition for each.

A mixture is a table that SQL makes (macro ``mixture``): a row per document with its ``part``, and the
part's ``share`` and ``max_epochs``. Only a pack knows the tokens, so the counting is done here: quotas that
add up to the token, a part's documents in a seeded order, all of them once before any of them twice, the
last one cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import xxhash

from headwater.errors import UsageError
from headwater.sequences.database import database, keep

if TYPE_CHECKING:
    import duckdb

    from headwater.lake import Table

SHARE_SLACK = 1e-6
"""How far from 1 the shares may sum: thirds written as decimals."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a mixture asks of a part: ``share`` of the tokens (all parts: exactly 1), and the cap."""

    share: Fraction
    max_epochs: float


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a part got.

    ``tokens`` are those of its documents with their end-of-text and control tokens (fill-in-the-middle adds
    some to that); ``epochs`` is ``tokens`` over those of one epoch, ``past_tokens`` what earlier stages of
    the run trained on, which counts against the cap.
    """

    share: float
    got: float
    tokens: int
    documents: int
    epochs: float
    max_epochs: float
    past_tokens: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def check_mixture(table: Table) -> dict[str, Part]:
    """The parts of a mixture table by name.

    Raises ``UsageError`` that names the row or part for: a missing value, a share or cap that is not positive
    or not the same in all rows of a part, shares that do not sum to 1, a document that stands twice.
    """
    columns = ["doc_id", "part", "share", "max_epochs"]
    with database(mixture=table.scan(columns)) as con:
        keep(con, "rows", "select doc_id::uuid as doc_id, part, share, max_epochs from mixture")
        _check_rows(con, table)
        found = con.execute(
            "select part, min(share), max(share), min(max_epochs), max(max_epochs) "
            "from rows group by part order by part"
        ).fetchall()
    if not found:
        raise UsageError(f"the mixture {table.ref} has no rows", hint="headwater build; look at its parts")
    for part, *values in found:
        for name, low, high in (("share", *values[:2]), ("max_epochs", *values[2:])):
            if low != high:
                raise UsageError(
                    f"part {part!r} of {table.ref} has several values of {name}: {low} and {high}",
                    hint="one value for all rows of a part; the macro mixture writes it so",
                )
            if not 0 < low < float("inf"):
                raise UsageError(
                    f"part {part!r} of {table.ref} has {name} {low}", hint="give a positive number"
                )
    shares = {part: Fraction(str(share)) for part, share, *_ in found}
    total = sum(shares.values(), Fraction(0))
    if abs(float(total) - 1) > SHARE_SLACK:
        listed = ", ".join(f"{part} {float(share)}" for part, share in shares.items())
        raise UsageError(
            f"the shares of {table.ref} sum to {float(total):.6g}: {listed}",
            hint="they must sum to 1 over the parts that have documents; one without any has no rows",
        )
    caps = {part: float(cap) for part, _, _, cap, _ in found}
    return {part: Part(share=share / total, max_epochs=caps[part]) for part, share in shares.items()}


def _check_rows(con: duckdb.DuckDBPyConnection, table: Table) -> None:
    for column in ("doc_id", "part", "share", "max_epochs"):
        rows = con.execute(
            f"select coalesce(doc_id::varchar, '?'), count(*) over () from rows "
            f"where {column} is null limit 1"
        ).fetchall()
        if rows:
            raise UsageError(
                f"{table.ref} has no {column} in {rows[0][1]:,} rows, document {_hex(rows[0][0])} for one",
                hint="a document that is in no part is not in the mixture: leave its row out",
            )
    twice = con.execute(
        "select doc_id::varchar, list_sort(list(distinct part)), count(*) over () from rows "
        "group by doc_id having count(*) > 1 order by doc_id limit 1"
    ).fetchall()
    if twice:
        doc_id, parts, count = twice[0]
        where = (
            f"parts {' and '.join(map(repr, parts))}"
            if len(parts) > 1
            else f"part {parts[0]!r} several times"
        )
        raise UsageError(
            f"document {_hex(doc_id)} of {table.ref} stands in {where}; {count:,} documents do such",
            hint="each document belongs to one part: exclude it from the others (`where`, or an anti join)",
        )


def _hex(doc_id: str) -> str:
    return doc_id.replace("-", "")


# -- quotas ---------------------------------------------------------------------------------------


def quotas(shares: Mapping[str, Fraction], total: int) -> dict[str, int]:
    """Whole tokens for each part that sum to ``total``: the largest remainders get what rounding leaves."""
    exact = {part: share * total for part, share in shares.items()}
    whole = {part: int(value) for part, value in exact.items()}
    left = total - sum(whole.values())
    for part in sorted(shares, key=lambda part: (whole[part] - exact[part], part))[:left]:
        whole[part] += 1
    return whole


def largest_total(shares: Mapping[str, Fraction], available: Mapping[str, int]) -> int:
    """The most tokens of which every part can fill its share."""
    return min(int(Fraction(available[part]) / share) for part, share in shares.items())


@dataclass(frozen=True)
class Supply:
    """What a part can give: tokens of one epoch, and those left of each epoch up to its cap."""

    epoch_tokens: int
    left: tuple[int, ...]
    past_tokens: int = 0

    @property
    def available(self) -> int:
        return sum(self.left)


def supply(epoch_tokens: int, max_epochs: float, left: Mapping[int, int], past: Mapping[int, int]) -> Supply:
    """The supply of a part with ``max_epochs``, of which earlier stages consumed ``past`` tokens by epoch.

    ``left`` has what remains of the epochs in ``past``; any other epoch is whole.
    """
    cap = Fraction(str(max_epochs))
    whole = int(cap)
    tokens = [left.get(epoch, epoch_tokens) for epoch in range(whole)]
    begun = int((cap - whole) * epoch_tokens)
    if begun:
        unused = max(begun - past.get(whole, 0), 0)
        tokens.append(min(unused, left.get(whole, epoch_tokens)))
    return Supply(epoch_tokens, tuple(tokens), sum(past.values()))


def decide(parts: Mapping[str, Part], supplies: Mapping[str, Supply], total: int | None) -> dict[str, int]:
    """The quota of each part: of ``total`` tokens, or of as many as all parts can fill.

    Raises ``UsageError`` that names a part which cannot fill its share, and the largest total possible.
    """
    shares = {part: asked.share for part, asked in parts.items()}
    available = {part: supplies[part].available for part in parts}
    most = largest_total(shares, available)
    wanted = quotas(shares, most if total is None else total)
    short = [part for part in sorted(parts) if wanted[part] > available[part] or most == 0]
    if short:
        named = min(short, key=lambda part: Fraction(available[part]) / shares[part])
        has = supplies[named]
        past = f", of which {has.past_tokens:,} are consumed" if has.past_tokens else ""
        raise UsageError(
            f"part {named!r} cannot fill its share: {float(shares[named]):.6g} of "
            f"{total if total is not None else most:,} tokens are {wanted[named]:,}, it has "
            f"{has.epoch_tokens:,} an epoch and max_epochs {parts[named].max_epochs:g}{past}: "
            f"{available[named]:,} to give",
            hint=f"at most {most:,} tokens in all with these shares (tokens_total); or raise its "
            "max_epochs, or lower its share",
        )
    return wanted


# -- drawing --------------------------------------------------------------------------------------


def draw(
    con: duckdb.DuckDBPyConnection, parts: Mapping[str, Part], total: int | None, seed: int
) -> dict[str, Drawn]:
    """Make the table ``carried`` from ``docs`` and ``consumed_sums``: the documents of every part's quota.

    A part's documents are taken epoch by epoch, inside an epoch by a hash that is not the order's own: else
    what an unfinished epoch adds would all stand early in the order.
    """
    supplies = _supplies(con, parts)
    wanted = decide(parts, supplies, total)
    rows = [
        {"part": part, "epoch": epoch, "quota": wanted[part]}
        for part in parts
        for epoch in range(_epochs_needed(supplies[part], wanted[part]))
    ]
    plan = pa.Table.from_pylist(
        rows, schema=pa.schema({"part": pa.string(), "epoch": pa.int32(), "quota": pa.int64()})
    )
    keep(con, "plan", "select * from given", given=plan.to_reader())
    con.execute(f"create or replace table drawable as {_carried(seed, 0)} limit 0").fetchall()
    for epoch in range(max((_epochs_needed(supplies[p], wanted[p]) for p in parts), default=0)):
        con.execute(f"insert into drawable {_carried(seed, epoch)}").fetchall()
    keep(
        con,
        "carried",
        """select * exclude (draw, before), least(length, quota - before) as allowed from (
            select *, sum(length) over (
                partition by source order by epoch, draw, doc_id rows unbounded preceding) - length as before
            from drawable
        ) where before < quota""",
    )
    got = {
        part: (tokens, documents)
        for part, tokens, documents in con.execute(
            "select source, sum(allowed)::bigint, count(distinct doc_id) from carried group by source"
        ).fetchall()
    }
    whole = sum(wanted.values())
    report = {}
    for part, asked in parts.items():
        tokens, documents = got.get(part, (0, 0))
        assert tokens == wanted[part], f"part {part}: drew {tokens} tokens of {wanted[part]}"
        report[part] = Drawn(
            share=float(asked.share),
            got=tokens / whole if whole else 0.0,
            tokens=tokens,
            documents=documents,
            epochs=tokens / supplies[part].epoch_tokens if supplies[part].epoch_tokens else 0.0,
            max_epochs=asked.max_epochs,
            past_tokens=supplies[part].past_tokens,
        )
    return report


def _carried(seed: int, epoch: int) -> str:
    """What every document has left to give in one epoch, for the parts that need that epoch."""
    return f"""
        select d.doc_id, {epoch}::int as epoch,
               seeded_hash(d.doc_id, seed := {epoch_seed(seed, epoch)}) as h,
               seeded_hash(d.doc_id, seed := {epoch_seed(seed, epoch, "draw")}) as draw,
               d.source, d.curriculum, coalesce(c.control, d.control) as control, d.fim_rate, c.form,
               d.num_tokens, d.position, plan.quota,
               (coalesce(c.closed, d.num_tokens + 1 + (coalesce(c.control, d.control) >= 0)::int)
                   - coalesce(c.tokens, 0))::bigint as length
        from docs d
        join plan on plan.part = d.source and plan.epoch = {epoch}
        left join consumed_sums c on c.doc_id = d.doc_id and c.epoch = {epoch}
        where not d.held and length > 0
    """


def epoch_seed(seed: int, epoch: int, purpose: str = "order") -> int:
    """The seed of an epoch's hash: the order's own for its first epoch, else a hash of all three."""
    if epoch == 0 and purpose == "order":
        return seed
    return int(xxhash.xxh3_64_intdigest(f"{purpose}/{seed}/{epoch}".encode()) >> 1)


def _supplies(con: duckdb.DuckDBPyConnection, parts: Mapping[str, Part]) -> dict[str, Supply]:
    one = {
        part: int(tokens)
        for part, tokens in con.execute(
            "select source, sum(num_tokens + 1 + (control >= 0)::int) "
            "from docs where not held group by source"
        ).fetchall()
    }
    past: dict[str, dict[int, int]] = {part: {} for part in parts}
    left: dict[str, dict[int, int]] = {part: {} for part in parts}
    query = """
        select d.source, e.epoch, sum(coalesce(c.tokens, 0))::bigint,
               sum(coalesce(c.closed, d.num_tokens + 1 + (coalesce(c.control, d.control) >= 0)::int)
                   - coalesce(c.tokens, 0))::bigint
        from docs d cross join (select distinct epoch from consumed_sums) e
        left join consumed_sums c on c.doc_id = d.doc_id and c.epoch = e.epoch
        where not d.held group by d.source, e.epoch
    """
    for part, epoch, consumed, rest in con.execute(query).fetchall():
        past[part][epoch], left[part][epoch] = consumed, rest
    return {
        part: supply(one.get(part, 0), asked.max_epochs, left[part], past[part])
        for part, asked in parts.items()
    }


def _epochs_needed(has: Supply, quota: int) -> int:
    filled = 0
    for epoch, tokens in enumerate(has.left):
        if filled >= quota:
            return epoch
        filled += tokens
    return len(has.left)
