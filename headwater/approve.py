"""Approving and revoking exact table versions (contract C4).

The record in ``<schema>.approvals`` is the truth; the Lance tag ``approved-<version>`` only keeps the
version from being cleaned up. Reading approvals is :mod:`headwater.lake.approvals`.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.checks import CheckReport, DbtTest, check_version, closure, run_dbt_tests, suite_names
from headwater.checks.closure import open_version
from headwater.checks.dbt_tests import PASSED
from headwater.checks.views import MEMORY_LIMIT, PACKED_TABLE, visible_tables
from headwater.errors import CheckFailed, NotApproved, UnknownName, UsageError
from headwater.lake import TableRef
from headwater.lake.approvals import (
    APPROVALS_SCHEMA,
    Approval,
    approval_of_content,
    approved_ref,
    record_tables,
    standing,
    standing_approval,
)

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

_log = logging.getLogger(__name__)

TAG = "approved-{version}"
"""The tag's name; Lance allows only letters, digits, dot, dash and underscore."""

REQUIRES_APPROVED_INPUTS = "requires_approved_inputs"
"""Key of ``provenance.extra``: true where a table may be approved over approved tables only."""

_ALWAYS_OVER_APPROVED = frozenset({"sequences"})


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """A revoked approval, and everything downstream that does not count any more.

    ``tables`` are the versions made from the revoked content, ``approvals`` those revoked with it
    (the table's own first), ``training_runs`` the recorded runs that read any of it.
    """

    table: TableRef
    approvals: tuple[Approval, ...]
    tables: tuple[TableRef, ...]
    training_runs: tuple[dict[str, Any], ...]
    who: str
    why: str
    at: datetime

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.table.to_dict(),
            "approvals": [approval.to_dict() for approval in self.approvals],
            "tables": [ref.to_dict() for ref in self.tables],
            "training_runs": list(self.training_runs),
            "who": self.who,
            "why": self.why,
            "at": self.at.isoformat(),
        }

    def to_json(self) -> str:
        """The revocation as JSON text; ``to_dict`` gives the object."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)


def approve(
    lake: Lake,
    table: str,
    *,
    who: str,
    why: str,
    version: int | str | None = None,
    project_dir: Path = Path(),
    run_dbt: bool = True,
    target: str | None = None,
    memory_limit: str = MEMORY_LIMIT,
    on_step: Callable[[str], None] | None = None,
) -> Approval:
    """Check one exact version and all that it was built from, and record its approval.

    Runs the suite of the table, the suites of every table upstream that has one, and the dbt tests of
    all of them, each against the version that provenance records. Approving again what stands approved
    by the same suites changes nothing and returns the standing approval.

    Parameters
    ----------
    who, why:
        Recorded as they are; neither may be empty.
    target:
        dbt's target; the lake's schema without it.
    on_step:
        Called with a line of text before each suite and before the dbt tests.

    Raises
    ------
    CheckFailed
        Something failed; the message lists all of it and nothing was recorded.
    UnknownName
        No such table, version or suite.
    """
    _require_text(who=who, why=why)
    project = Path(project_dir)
    step = on_step or (lambda _: None)
    subject = lake.table(table, version=version)
    refs = closure(lake, subject)
    failures = [*_broken_inputs(lake, refs), *_unapproved_inputs(lake, subject)]
    if failures:  # before the checks, which take longer and could not change it
        raise _refused(subject, failures)
    reports = _check_all(lake, subject, refs, project, memory_limit, step)
    failures += [f"{report.table}: {result}" for report in reports for result in report.failures]
    tests: list[DbtTest] | None = None
    if run_dbt:
        step("dbt tests")
        seen = visible_tables(lake, subject)
        pins = {each.name: each.version for each in seen}
        tests = run_dbt_tests(project, target or lake.schema, pins, pins, lake_uri=lake.uri)
        failures += [_test_failure(test) for test in tests if test["status"] not in PASSED]
    if failures:
        raise _refused(subject, failures)
    return _record(lake, subject, refs, reports, tests, who, why)


def revoke(lake: Lake, table: str, *, who: str, why: str, version: int | None = None) -> Revocation:
    """Take back the approval of a table's content, and of everything that was made from it.

    Without ``version`` the version that ``"approved"`` opens. Every approval of the same content goes,
    in every schema, and every approval of a table version downstream; the rows that approved stay on
    record. Raises ``NotApproved`` when no approval stands.
    """
    _require_text(who=who, why=why)
    approval = standing_approval(lake, table, version)
    if approval is None:
        name = lake.table(table).name
        where = f"{name}@{version}" if version is not None else name
        raise NotApproved(f"{where} has no standing approval to revoke")
    downstream = _downstream(lake, approval.table)
    records = [f"{schema}.approvals" for schema in lake.schemas()]
    hit = {(approval.table.name, approval.table.digest)} | {(r.name, r.digest) for r in downstream}
    revoked = [a for a in standing(lake, records) if _touches(a, approval.table, hit)]
    # The subject's own row last: if this is killed half-way, the approval still stands and
    # revoking it again finishes the work.
    revoked.sort(key=lambda a: a.table.name == approval.table.name)
    at = _now(lake, records)
    _write_revocations(lake, revoked, who, why, at)
    for each in revoked:
        _untag(lake, each.table)
    return Revocation(
        table=approval.table,
        approvals=tuple(reversed(revoked)),
        tables=tuple(downstream),
        training_runs=tuple(_training_runs(lake, [approval.table, *downstream])),
        who=who,
        why=why,
        at=at,
    )


# -- what must hold before an approval -------------------------------------------------------------


def _require_text(**given: str) -> None:
    for name, text in given.items():
        if not text.strip():
            raise UsageError(f"an approval needs a {name}, got an empty text")


def _broken_inputs(lake: Lake, refs: Iterable[TableRef]) -> list[str]:
    broken = []
    for ref in refs:
        found = open_version(lake, ref)
        if found is None:
            broken.append(f"{ref}: this version is gone from the lake, so it cannot be checked")
        elif found.digest != ref.digest:
            broken.append(f"{ref}: has digest {found.digest}, recorded was {ref.digest}")
    return broken


def _unapproved_inputs(lake: Lake, subject: Table) -> list[str]:
    extra = subject.provenance.extra
    if subject.short_name not in _ALWAYS_OVER_APPROVED and not extra.get(REQUIRES_APPROVED_INPUTS):
        return []
    required = _required_inputs(lake, subject)
    if not required:
        return [f"{subject.ref}: does not record which curated table it was made from"]
    return [
        f"{ref}: is not approved, and {subject.short_name} may only be approved over approved tables "
        f"(headwater approve {ref.name.rpartition('.')[2]})"
        for ref in required
        if approval_of_content(lake, ref) is None
    ]


def _required_inputs(lake: Lake, subject: Table) -> list[TableRef]:
    """The curated tables below ``subject``: the one it names, or those whose decisions are kept."""
    refs = closure(lake, subject)
    named = subject.provenance.extra.get(PACKED_TABLE)
    if isinstance(named, dict):
        return [TableRef.from_dict(named)]
    if isinstance(named, str):
        short = named.partition("@")[0].rpartition(".")[2]
        return [ref for ref in refs if ref.name.rpartition(".")[2] == short]
    opened = [(ref, open_version(lake, ref)) for ref in refs]
    curated = [ref for ref, found in opened if found and "decisions" in found.provenance.extra]
    return curated or list(subject.provenance.inputs)


def _check_all(
    lake: Lake,
    subject: Table,
    refs: Iterable[TableRef],
    project: Path,
    memory_limit: str,
    step: Callable[[str], None],
) -> list[CheckReport]:
    known = set(suite_names(project))
    reports = []
    upstream = [ref for ref in refs if ref.name.rpartition(".")[2] in known]
    for ref in [*upstream, subject.ref]:
        step(f"suite of {ref}")
        opened = lake.table(ref.name, version=ref.version)
        reports.append(check_version(lake, opened, project, memory_limit=memory_limit))
    return reports


def _test_failure(test: DbtTest) -> str:
    rows = f"{test['failures']:,} failing rows" if test["failures"] else test["message"]
    return f"{test['table']}: dbt test {test['test']}: {test['status']}{f', {rows}' if rows else ''}"


def _refused(subject: Table, failures: Sequence[str]) -> CheckFailed:
    listed = "\n".join(f"  {failure}" for failure in failures)
    noun = "check" if len(failures) == 1 else "checks"
    return CheckFailed(
        f"{subject.ref} is not approved, {len(failures)} {noun} failed:\n{listed}",
        hint="nothing was recorded; repair the data or the suite, build, and approve again",
    )


# -- the record ------------------------------------------------------------------------------------


def _record(
    lake: Lake,
    subject: Table,
    refs: Sequence[TableRef],
    reports: Sequence[CheckReport],
    tests: Sequence[DbtTest] | None,
    who: str,
    why: str,
) -> Approval:
    records = record_tables(lake, subject.name)
    suites = tuple(
        {
            "suite": report.suite,
            "table": report.table.name,
            "version": report.table.version,
            "suite_digest": report.suite_digest,
            "success": report.success,
            "expectations": len(report.results),
        }
        for report in reports
    )
    with lake.lease(records[0].partition(".")[0], purpose="approves"):
        current = _current(lake, subject.name, records)
        if current is not None and current.table == subject.ref and _as_before(current, suites, tests):
            _guard(lake, current.table)
            return current
        approval = Approval(
            approval_id=uuid.uuid4().hex,
            table=subject.ref,
            closure=tuple(refs),
            suites=suites,
            dbt_tests=None if tests is None else tuple(dict(test) for test in tests),
            who=who,
            why=why,
            at=_now(lake, records),
            record=records[0],
        )
        lake.write(records[0], _rows([_row(approval)]), mode="append")
    _guard(lake, subject.ref)
    return approval


def _current(lake: Lake, name: str, records: Sequence[str]) -> Approval | None:
    found = [a for a in standing(lake, records) if a.table.name == name]
    return found[-1] if found else None


def _as_before(current: Approval, suites: Sequence[dict[str, Any]], tests: Sequence[DbtTest] | None) -> bool:
    """Whether the standing approval already says all that a new one would."""
    same_suites = [s["suite_digest"] for s in current.suites] == [s["suite_digest"] for s in suites]
    return same_suites and (tests is None or current.dbt_tests is not None)


def _row(approval: Approval) -> dict[str, Any]:
    return {
        "approval_id": approval.approval_id,
        "action": "approve",
        "table": approval.table.name,
        "version": approval.table.version,
        "content_digest": approval.table.digest,
        "closure": json.dumps([ref.to_dict() for ref in approval.closure]),
        "suites": json.dumps(list(approval.suites), sort_keys=True),
        "dbt_tests": (
            None if approval.dbt_tests is None else json.dumps(list(approval.dbt_tests), sort_keys=True)
        ),
        "revokes": None,
        "who": approval.who,
        "why": approval.why,
        "at": approval.at,
    }


def _rows(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=APPROVALS_SCHEMA)


def _now(lake: Lake, records: Iterable[str]) -> datetime:
    """The present, but later than every row on record: clocks differ, the order of rows must not."""
    times: list[datetime] = [
        row["at"]
        for record in records
        if lake.exists(record)
        for row in lake.table(record).to_arrow(columns=["at"]).to_pylist()
    ]
    return max([datetime.now(UTC), *(at + timedelta(microseconds=1) for at in times)])


def _guard(lake: Lake, ref: TableRef) -> None:
    """Tag an approved version. The record stands without it, so a failure is no reason to fail."""
    try:
        lake.tag(ref.name, TAG.format(version=ref.version), ref.version)
    except Exception:
        _log.warning("%s is approved, but could not be tagged against clean-up", ref, exc_info=True)


def _untag(lake: Lake, ref: TableRef) -> None:
    try:
        lake.untag(ref.name, TAG.format(version=ref.version))
    except UnknownName:
        return  # the table is gone, and its tags with it
    except Exception:
        _log.warning("%s is revoked, but its tag could not be deleted", ref, exc_info=True)


# -- what a revocation reaches ---------------------------------------------------------------------


def _downstream(lake: Lake, origin: TableRef) -> list[TableRef]:
    """Every version made from the content of ``origin``, directly or not, in the order of the lake."""
    rows = lake.versions().select(["table", "version", "digest", "inputs"]).to_pylist()
    made = [
        (
            TableRef(name=row["table"], version=row["version"], digest=row["digest"]),
            # Not its own former version: an incremental build equals a full one from the other inputs.
            {
                (ref["table"], ref["digest"])
                for ref in json.loads(row["inputs"])
                if ref["table"] != row["table"]
            },
        )
        for row in rows
    ]
    reached = {(origin.name, origin.digest)}
    found: dict[TableRef, None] = {}
    growing = True
    while growing:
        growing = False
        for ref, inputs in made:
            if ref not in found and inputs & reached:
                found[ref] = None
                reached.add((ref.name, ref.digest))
                growing = True
    return [ref for ref in found if (ref.name, ref.digest) != (origin.name, origin.digest)]


def _touches(approval: Approval, origin: TableRef, hit: set[tuple[str, str]]) -> bool:
    """By the versions of the lake, or by the approval's own record where a version is gone from it."""
    if (approval.table.name, approval.table.digest) in hit:
        return True
    return any((ref.name, ref.digest) == (origin.name, origin.digest) for ref in approval.closure)


def _write_revocations(lake: Lake, revoked: Sequence[Approval], who: str, why: str, at: datetime) -> None:
    for record in dict.fromkeys(approval.record for approval in revoked):
        rows = [
            {
                **_row(approval),
                "approval_id": uuid.uuid4().hex,
                "action": "revoke",
                "revokes": approval.approval_id,
                "who": who,
                "why": why,
                "at": at,
            }
            for approval in revoked
            if approval.record == record
        ]
        lake.write(record, _rows(rows), mode="append")


def _training_runs(lake: Lake, refs: Iterable[TableRef]) -> list[dict[str, Any]]:
    """Runs in which any value is the digest of one of ``refs``, with their short columns."""
    digests = {ref.digest for ref in refs}
    runs = []
    for schema in lake.schemas():
        if "training_runs" not in lake.tables(schema):
            continue
        for row in lake.table(f"{schema}.training_runs").to_arrow().to_pylist():
            if any(isinstance(value, str) and value in digests for value in row.values()):
                runs.append({"schema": schema, **{k: v for k, v in row.items() if _is_short(v)}})
    return runs


def _is_short(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 100)


__all__ = [
    "Approval",
    "Revocation",
    "approve",
    "approved_ref",
    "revoke",
    "standing_approval",
]
