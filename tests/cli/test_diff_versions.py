"""``diff``: counts, reasons and rules of two versions, and Markdown that data cannot break."""

from __future__ import annotations

import json

import pytest

from headwater.diff import diff, previous
from headwater.errors import UnknownName, UsageError
from headwater.lineage import open_ref
from headwater.report.markdown import code, escape


@pytest.fixture(scope="module")
def change(lake):
    return diff(lake, "python_textbook@1", "python_textbook@2")


def test_counts_agree_with_the_tables(lake, change):
    ids = [
        set(lake.table("python_textbook", version=v).to_arrow(["doc_id"])["doc_id"].to_pylist())
        for v in (1, 2)
    ]
    assert (change.added, change.removed) == (len(ids[1] - ids[0]), len(ids[0] - ids[1]))
    assert change.added == len(change.added_samples) == 5
    assert {s.doc_id for s in change.added_samples} == {i.hex() for i in ids[1] - ids[0]}
    sizes = {
        r["doc_id"]: r["text_bytes"]
        for r in lake.table("documents").to_arrow(["doc_id", "text_bytes"]).to_pylist()
    }
    for side, members in zip((change.a, change.b), ids, strict=True):
        assert side.num_rows == len(members)
        assert side.text_bytes == sum(sizes[i] for i in members)


def test_added_documents_name_the_rule_that_kept_them_out(change):
    assert [(r.because, r.documents) for r in change.added_reasons] == [("long_enough", 5)]
    assert change.removed_reasons == () and all(s.path for s in change.added_samples)


def test_a_rewritten_rule_shows_both_expressions(change):
    rewritten = {r.rule: r.expression for r in change.rules if r.rewritten}
    assert rewritten == {"long_enough": ("num_words >= 400", "num_words >= 200")}
    by_name = {r.rule: r for r in change.rules}
    before, after = by_name["long_enough"].failed
    assert before - after == 5
    assert by_name["not_generated"].failed[0] == by_name["not_generated"].failed[1]


def test_the_other_direction_says_what_a_stricter_rule_takes(lake):
    back = diff(lake, "python_textbook@2", "dev:python_textbook@1")
    assert (back.added, back.removed) == (0, 5)
    assert [(r.because, r.documents) for r in back.removed_reasons] == [("long_enough", 5)]


def test_a_version_against_itself_is_the_same(lake):
    same = diff(lake, "python_textbook", "python_textbook@2")
    assert same.same_content and (same.added, same.removed, same.counts, same.inputs) == (0, 0, (), ())
    assert "Same content" in same.to_markdown()


def test_two_schemas_and_a_new_document(sample, tmp_path):
    documents = sample.make_documents(25)
    lake = sample.build_sample(tmp_path / "lake", documents)
    newer = [d for d in documents if d.path != documents[1].path]
    newer.append(sample.make_document("new|`source`", "a/<img src=x>|new.py", "word " * 500))
    newer[-1].cluster = newer[-1].doc_id
    raw = sample.write_documents(lake, newer)
    signals = lake.table("signals").ref
    sample.write_curated(lake, newer, [raw, signals], min_words=200, name="prod.python_textbook")
    found = diff(lake, "dev:python_textbook", "prod:python_textbook")
    assert [(r.because, r.documents) for r in found.added_reasons] == [("new document", 1)]
    assert [(r.because, r.documents) for r in found.removed_reasons] == [("document gone", 1)]
    changed = {i.table: i for i in found.inputs}
    assert changed["documents"].before != changed["documents"].after
    assert not changed["documents"].same_content and changed["duplicate_clusters"].after is None
    markdown = found.to_markdown()
    assert "``new\\|`source`/a/<img src=x>\\|new.py``" in markdown
    for line in markdown.splitlines():
        if line.startswith("| "):
            assert line.endswith(" |")


def test_tables_without_rules_or_ids_compare_by_rows(lake):
    found = diff(lake, "signals", "license_concluded")
    assert found.funnels == (None, None) and found.rules == ()
    pairs = diff(lake, "near_duplicate_pairs", "near_duplicate_pairs")
    assert pairs.a.text_bytes is None and "rows" in pairs.to_markdown()


def test_previous_is_the_last_other_content(lake):
    assert previous(lake, "python_textbook") == "dev.python_textbook@1"
    with pytest.raises(UnknownName):
        previous(lake, "signals")


def test_references_are_read_strictly(lake):
    assert str(open_ref(lake, "dev:python_textbook@1").ref) == "dev.python_textbook@1"
    assert str(open_ref(lake, "python_textbook@approved").ref) == "dev.python_textbook@2"
    for wrong in ("", "@3", "python_textbook@"):
        with pytest.raises(UsageError):
            open_ref(lake, wrong)
    for unknown in ("python_textbok", "python_textbook@99", "python_textbook@nosuchtag", "nowhere:x"):
        with pytest.raises(UnknownName):
            open_ref(lake, unknown)


def test_the_command_prints_markdown_or_json(run):
    code_, out, err = run("diff", "python_textbook")
    assert (code_, err) == (0, "")
    assert out.startswith("### dev.python\\_textbook@1 → dev.python\\_textbook@2")
    assert "#### Rejected by rule" in out
    code_, out, _ = run("diff", "python_textbook@1", "python_textbook@2", "--json")
    assert code_ == 0 and json.loads(out)["added"] == 5


def test_markdown_of_data_is_inert():
    assert escape("a|b<c>*d*[e](f)\n@g") == "a\\|b\\<c\\>\\*d\\*\\[e\\](f) \\@g"
    assert (
        code("x`y") == "``x`y``"
        and code("`x`") == "`` `x` ``"
        and code("a|b") == "`a\\|b`"
        and code("") == ""
    )
