"""``why``: each kind of document tells its own story, and names find one document or say which there are."""

from __future__ import annotations

import pytest

from headwater.errors import UnknownName, UsageError
from headwater.why import MIN_PREFIX, find_document, why


def _one(documents, path):
    return next(d for d in documents if d.path == path)


def test_a_kept_document(lake, documents):
    kept = documents[1]
    story = why(lake, kept.doc_id.hex())
    (verdict,) = story.verdicts
    assert (verdict.table, verdict.outcome, verdict.rules) == ("dev.python_textbook", "kept", ())
    assert [a["who"] for a in verdict.approvals] == ["ada@example.org"]
    assert story.license == {"license_spdx": "PSF-2.0", "license_tier": "gold", "evidence": "metadata"}
    assert story.signals["dev.signals@1"]["num_words"] == kept.words
    assert "text" not in story.document and story.document["path"] == kept.path


def test_a_duplicate_names_the_copy_that_was_kept(lake, documents):
    cluster = [d for d in documents if d.cluster_size == 4]
    survivor = min(cluster, key=lambda d: (-d.words, d.doc_id))
    for document in cluster:
        (verdict,) = why(lake, document.doc_id).verdicts
        if document is survivor:
            assert verdict.outcome == "kept"
            continue
        (rule,) = verdict.rules
        assert (rule.rule, rule.outcome) == ("unique", "failed")
        assert rule.match is not None and rule.match.doc_id == survivor.doc_id.hex()
        assert rule.values["cluster_id"] == document.cluster.hex()


def test_a_cluster_tells_similarity_and_who_was_kept(lake, documents):
    first = next(d for d in documents if d.cluster_size == 4)
    cluster = why(lake, first.doc_id).cluster
    assert cluster is not None and cluster.size == 4
    assert {round(m.similarity, 2) for m in cluster.members} == {0.97, 0.98, 0.99}
    assert cluster.members[0].kept_in == ("dev.python_textbook",)
    assert all(m.kept_in == () for m in cluster.members[1:])


def test_a_rejected_document_gives_each_rule_with_its_values(lake, documents):
    both = documents[5]
    (verdict,) = why(lake, both.path).verdicts
    assert verdict.outcome == "rejected"
    assert {r.rule: r.values for r in verdict.rules} == {
        "permissive_license": {"license_tier": "unknown"},
        "not_generated": {"is_generated": True},
    }
    assert all(r.expression and r.description and not r.missing for r in verdict.rules)


def test_an_unknown_document_is_neither_kept_nor_rejected(lake, documents):
    (verdict,) = why(lake, documents[12].path).verdicts
    (rule,) = verdict.rules
    assert (verdict.outcome, rule.outcome, rule.values) == ("unknown", "unknown", {"license_tier": None})


def test_a_document_that_came_after_the_build_is_not_a_candidate(sample, tmp_path):
    documents = sample.make_documents(20)
    lake = sample.build_sample(tmp_path / "lake", documents)
    late = sample.make_document("late", "late.py", "x = 1\n")
    sample.write_documents(lake, [*documents, late])
    (verdict,) = why(lake, "late.py").verdicts
    assert verdict.outcome == "not a candidate" and "came after raw.documents@" in verdict.note


def test_a_document_is_found_by_id_prefix_and_path(lake, documents):
    table = lake.table("documents")
    document = _one(documents, "copies/copy_1.py")
    for name in (
        document.doc_id.hex(),
        document.doc_id.hex().upper(),
        document.doc_id.hex()[:MIN_PREFIX],
        "copies/copy_1.py",
        "vendored/copies/copy_1.py",
        "copy_1.py",
    ):
        assert find_document(table, name) == document.doc_id, name


def test_hostile_names_are_only_names(lake, documents, sample):
    table = lake.table("documents")
    assert find_document(table, sample.HOSTILE_PATH) == documents[-1].doc_id
    for name in ("' or 1=1 --", "%", "x' union select", "\\"):
        with pytest.raises(UnknownName):
            find_document(table, name)


def test_an_unknown_name_gives_near_paths(lake):
    with pytest.raises(UnknownName) as caught:
        find_document(lake.table("documents"), "copies/copy_9.py")
    assert "vendored/copies/copy_" in str(caught.value.hint)
    with pytest.raises(UnknownName):
        find_document(lake.table("documents"), "0" * 32)


def test_an_ambiguous_name_lists_its_documents(sample, tmp_path):
    documents = [sample.make_document(source, "same.py", f"x = {source!r}") for source in ("a", "b")]
    for document in documents:
        document.cluster = document.doc_id
    lake = sample.build_sample(tmp_path / "lake", [*sample.make_documents(15), *documents])
    with pytest.raises(UsageError) as caught:
        find_document(lake.table("documents"), "same.py")
    assert all(d.doc_id.hex() in caught.value.message for d in documents)


def test_values_of_private_rules_are_withheld(sample, monkeypatch, tmp_path):
    monkeypatch.setitem(sample.RULES, "no_pii", ("num_words >= 200", ["num_words"]))
    rules = {name: rule for name, rule in sample.RULES.items() if name != "long_enough"}
    monkeypatch.setattr(sample, "RULES", {**rules, "no_pii": rules["no_pii"]})
    monkeypatch.setattr(sample, "LENGTH_RULE", "no_pii")
    lake = sample.build_sample(tmp_path / "lake", sample.make_documents(20))
    (verdict,) = why(lake, sample.HOSTILE_PATH).verdicts
    assert [r.values for r in verdict.rules] == [{"num_words": "(withheld)"}]


def test_the_command_prints_the_story(run, sample, documents):
    code, out, err = run("why", "copies/copy_1.py")
    assert (code, err) == (0, "")
    for part in ("rejected", "unique", "kept instead", "one of 4 alike"):
        assert part in out
    assert "approved as" not in out, "an approval of the table says nothing of a document outside it"
    assert "approved as dev.python_textbook@2" in run("why", documents[1].path)[1]
    assert run("why", sample.HOSTILE_PATH)[0] == 0
    code, _, err = run("why", "nothing/like/it.py")
    assert code == 2 and "hint: " in err
