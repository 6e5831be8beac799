"""Lineage of versions, and what the doctor finds."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

from headwater import doctor
from headwater.doctor import diagnose
from headwater.lineage import downstream, tree, upstream

ROOT = Path(__file__).parents[2]


def test_upstream_and_downstream_are_each_others_inverse(lake):
    table = lake.table("python_textbook")
    above = upstream(lake, table.ref)
    made = ("signals", "license_concluded", "near_duplicate_pairs", "duplicate_clusters")
    assert {ref.name for ref in above} == {"raw.documents", *(f"dev.{name}" for name in made)}
    for ref in above:
        assert (table.name, table.version) in {(r.name, r.version) for r in downstream(lake, ref)}
    assert downstream(lake, table.ref) == []


def test_a_tree_shows_each_version_once_in_full(lake):
    node = tree(lake, "python_textbook@1")
    assert (node.ref.version, node.kind) == (1, "model")
    clusters = next(n for n in node.inputs if n.ref.name == "dev.duplicate_clusters")
    assert [n.ref.name for n in clusters.inputs] == ["raw.documents", "dev.near_duplicate_pairs"]
    assert json.dumps(node.to_json())


def test_a_version_that_is_gone_is_still_named(sample, tmp_path):
    documents = sample.make_documents(15)
    lake = sample.Lake(tmp_path / "lake", schema="dev")
    gone = sample.TableRef(name="dev.gone", version=7, digest="0" * 32)
    sample.write_curated(lake, documents, [sample.write_documents(lake, documents), gone], min_words=200)
    notes = {str(n.ref): n.note for n in tree(lake, "python_textbook").inputs}
    assert notes["dev.gone@7"] == "no longer stored"


def test_an_incremental_chain_is_not_unrolled(sample, tmp_path):
    lake = sample.Lake(tmp_path / "lake", schema="dev")
    table = sample.pa.table({"doc_id": sample.pa.array([b"0" * 16], sample.ID)})
    inputs = ()
    for _ in range(5):
        version = lake.write("rows", table, provenance=sample.Provenance(kind="rows", inputs=inputs))
        inputs = (version.ref,)
        table = sample.pa.concat_tables([table, table])
    node = tree(lake, "rows")
    assert node.inputs == () and node.note == f"added to version {node.ref.version - 1}"


def test_a_whole_project_is_well(monkeypatch, lake):
    found = {f.name: f for f in diagnose(ROOT, lake=lake.uri)}
    assert not [f for f in found.values() if f.blocks]
    assert found["project"].status == found["lake"].status == "ok"
    assert "dev" in found["lake"].detail


def test_a_missing_package_names_the_command(monkeypatch):
    declared = ["duckdb>=2.0", "nosuchthing>=1.2", "pyarrow>=9999", "alsonot>=1; extra == 'checks'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: declared)
    found = {f.name: f for f in doctor._packages()}
    assert (found["nosuchthing"].status, found["nosuchthing"].fix) == (
        "missing",
        "pip install 'nosuchthing>=1.2'",
    )
    assert found["pyarrow"].status == "broken" and found["pyarrow"].fix == "pip install 'pyarrow>=9999'"
    assert (found["extra checks"].status, found["extra checks"].fix) == (
        "note",
        "pip install 'headwater[checks]'",
    )


def test_a_missing_sandbox_is_told_before_code_is_generated(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda tool: None if tool == "bwrap" else f"/usr/bin/{tool}")
    found = doctor._sandbox()
    assert found.status == "note" and "bwrap" in found.detail and "apt-get install bubblewrap" in found.fix
    monkeypatch.setattr(doctor.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    assert doctor._sandbox().status == "ok"


def test_the_command_fails_when_something_required_is_missing(monkeypatch, run):
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["nosuchthing>=1.2"])
    code, out, _ = run("doctor", on_lake=False)
    assert code == 1 and "pip install 'nosuchthing>=1.2'" in out


def test_a_left_over_lease_is_named(tmp_path, sample):
    lake = sample.build_sample(tmp_path / "lake", sample.make_documents(15))
    owner = {"token": "t", "host": "elsewhere", "pid": 1, "purpose": "write", "expires_at": 1.0}
    (tmp_path / "lake" / "dev" / "_lease.json").write_text(json.dumps(owner))
    found = {f.name: f for f in diagnose(ROOT, lake=lake.uri)}
    assert found["lease on dev"].status == "warning" and "elsewhere" in found["lease on dev"].detail


def test_no_project_is_a_note_unless_one_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {f.name: f.status for f in diagnose()}["project"] == "note"
    assert {f.name: f.status for f in diagnose(tmp_path)}["project"] == "broken"
