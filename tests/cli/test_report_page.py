"""The report: right numbers, one file, nothing loaded from anywhere, hostile data inert."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater import trace
from headwater.errors import BadInput, DataMismatch, UsageError
from headwater.report import funnel, write_report
from headwater.report.charts import Bar, bar_chart, histogram, line_chart, thin
from headwater.report.words import change, count, seconds, share, size


@pytest.fixture(scope="module")
def page(lake, tmp_path_factory):
    return write_report(lake, tmp_path_factory.mktemp("page") / "sub" / "report.html").read_text("utf-8")


class Page(HTMLParser):
    """Collects tags, their attributes, and the text outside tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def test_the_funnel_adds_up(lake, documents):
    found = funnel(lake, "python_textbook")
    assert found.documents_in == len(documents) == found.kept + found.rejected + found.unknown
    assert found.bytes_in == sum(len(d.text.encode()) for d in documents)
    assert found.bytes_in == found.kept_bytes + found.rejected_bytes + found.unknown_bytes
    assert found.quarantined == {"not_utf8": 2, "empty": 1}


def test_a_document_counts_for_every_rule_and_once_as_only(lake):
    rules = {rule.rule: rule for rule in funnel(lake, "python_textbook").rules}
    assert list(rules) == ["permissive_license", "not_generated", "long_enough", "unique"]
    # Six files have no known license; one of them is generated as well, and one more is generated only.
    assert (rules["permissive_license"].failed, rules["permissive_license"].only) == (6, 5)
    assert (rules["not_generated"].failed, rules["not_generated"].only) == (2, 1)
    assert rules["permissive_license"].unknown == 1
    assert (rules["unique"].failed, rules["unique"].only) == (3, 3)


def test_decisions_that_do_not_add_up_are_an_error(sample, tmp_path):
    lake = sample.build_sample(tmp_path / "lake", sample.make_documents(15))
    decisions = lake.table("decisions").to_arrow()
    lake.write("decisions", decisions.slice(0, len(decisions) - 1))
    with pytest.raises(DataMismatch, match="records"):
        funnel(lake, "python_textbook")


def test_a_table_without_rules_has_no_funnel(lake):
    with pytest.raises(UsageError, match="not made by rules"):
        funnel(lake, "signals")


def test_the_page_refers_to_nothing_outside(page):
    loading = {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background", "ping"}
    for tag, attributes in Page(page).tags:
        for name in loading & set(attributes):
            assert (attributes[name] or "").startswith("#"), (tag, name, attributes[name])
    assert not re.search(r"https?://", _markup(page))
    assert "@import" not in page and "url(" not in page
    tags = {tag for tag, _ in Page(page).tags}
    assert not tags & {"script", "link", "iframe", "img", "object", "embed", "base", "form"}
    assert "default-src 'none'" in page


def test_hostile_names_and_texts_are_inert(page, sample):
    parsed = Page(page)
    words = "".join(parsed.words)
    assert "<script>alert(1)</script>" in words and "onerror=alert(2)" in words and "{{ 7*7 }}" in words
    assert sample.HOSTILE_TEXT.splitlines()[0] in words
    for _, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes)


def test_the_page_shows_what_it_promises(page):
    words = re.sub(r"\s+", " ", "".join(Page(page).words))
    for part in (
        "Funnel", "Rules", "Lengths", "Licenses", "Sources", "Near-duplicates", "Samples", "Training",
        "Checks and approval", "Lineage", "num_words >= 200", "Why unique matters.", "ada@example.org",
        "python_textbook@2", "first textbook <i>reviewed</i>", "raw.documents@", "not_utf8 2",
        "python_textbook: 12 expectations", "Loss of run run-1 over 40 steps", "1 cluster of near-copies",
    ):  # fmt: skip
        assert part in words, part
    assert page.count('<details class="sample">') == 20 + _dropped(words)


def test_pictures_are_accessible(page):
    pictures = [attributes for tag, attributes in Page(page).tags if tag == "svg"]
    assert len(pictures) >= 6
    assert all(a.get("role") == "img" and a.get("aria-label") for a in pictures)
    targets = {a["href"][1:] for tag, a in Page(page).tags if tag == "a"}
    assert targets <= {a.get("id") for tag, a in Page(page).tags if tag == "h2"}


def test_the_page_is_the_same_for_the_same_lake(lake, page, tmp_path):
    assert write_report(lake, tmp_path / "again.html").read_text("utf-8") == page


def test_a_page_that_cannot_be_written_leaves_nothing(lake, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(BadInput, match="cannot write"):
        write_report(lake, tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_a_lake_with_nothing_but_the_table(sample, tmp_path):
    documents = sample.make_documents(15)
    lake = sample.Lake(tmp_path / "lake", schema="dev")
    raw = sample.write_documents(lake, documents)
    sample.write_curated(lake, documents, [raw], min_words=200)
    words = "".join(Page(write_report(lake, tmp_path / "r.html").read_text("utf-8")).words)
    for part in ("not approved", "No training run", "No near-duplicates", "No table of concluded licenses"):
        assert part in words


def test_an_empty_corpus_still_makes_a_page(sample, tmp_path):
    lake = sample.Lake(tmp_path / "lake", schema="dev")
    raw = sample.write_documents(lake, [])
    sample.write_curated(lake, [], [raw], min_words=200)
    assert "0 of 0 documents" in "".join(
        Page(write_report(lake, tmp_path / "r.html").read_text("utf-8")).words
    )


def test_a_traced_step_lists_its_documents(sample, tmp_path, monkeypatch):
    lake = sample.build_sample(tmp_path / "lake", sample.make_documents(15))
    lake.write(
        "training_runs",
        sample.pa.table({"run_id": ["run-1", "run-1"], "attempt": [0, 1], "start_step": [0, 30]}),
        mode="append",
    )
    rows = [
        {
            "doc_id": "ab" * 16,
            "source": "s",
            "path": f"<b>{i}</b>.py",
            "start": 0,
            "tokens": i,
            "share": i / 10,
        }
        for i in range(40)
    ]
    seen = SimpleNamespace(
        step=30, loss=1.5, tokens=780, first_sequence=8, count=4, table="dev.sequences@1", rows=rows
    )
    asked = []
    monkeypatch.setattr(trace, "trace_step", lambda lake, step, run: asked.append((step, run)) or seen)
    words = "".join(Page(write_report(lake, tmp_path / "r.html").read_text("utf-8")).words)
    # Steps 31 to 40 of attempt 0 were gone back behind, so step 30 is the last that counts.
    assert asked == [(30, "run-1")] and "over 30 steps" in words
    assert "sequences 8 to 11 of dev.sequences@1" in words and "<b>39</b>.py" in words
    assert "and 15 more: headwater trace --step 30" in words


def test_the_command_writes_the_page(run, tmp_path):
    target = tmp_path / "out.html"
    code, out, err = run("report", "-o", str(target))
    assert (code, err) == (0, "") and target.exists() and out.replace("\n", "").endswith("out.html")
    assert run("report", "signals", "-o", str(target))[0] == 2


NAMES = st.text(max_size=30)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(NAMES, st.integers(0, 10**12), st.integers(0, 10**12)), max_size=15))
def test_charts_escape_any_label_and_stay_finite(rows):
    drawn = [
        bar_chart([Bar(label=a, value=max(b, c), inner=min(b, c), note=a) for a, b, c in rows], title="t"),
        histogram(rows, title="t"),
        line_chart([(i, float(b)) for i, (_, b, _) in enumerate(rows)], title="t", x_label="x"),
    ]
    for picture in map(str, drawn):
        tags = {tag for tag, _ in Page(picture).tags}
        assert tags <= {"svg", "title", "desc", "rect", "text", "g", "line", "path"}
        assert "nan" not in re.sub(r">[^<]*<|aria-label=\"[^\"]*\"", "", picture).lower()


def test_labels_of_an_axis_do_not_touch():
    def labels(count: int) -> list[str]:
        picture = str(histogram([(f"{2**i} KiB", 1, 1) for i in range(count)], title="t"))
        return re.findall(r"(\d+ KiB)</text>", picture)

    assert labels(6) == ["1 KiB", "2 KiB", "4 KiB", "8 KiB", "16 KiB", "32 KiB"]
    assert labels(20)[:3] == ["1 KiB", "4 KiB", "16 KiB"]  # 77 units for 524288 KiB, 44 a column


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), max_size=200), st.integers(2, 50))
def test_thinning_keeps_the_ends_and_the_mean(values, most):
    points = [(float(i), v) for i, v in enumerate(values)]
    found = thin(points, most)
    assert len(found) <= max(most, 0) or len(found) == len(points)
    assert [x for x, _ in found] == sorted(x for x, _ in found)


def test_words():
    assert [size(v) for v in (0, 999, 1000, 12_345, 123_456_789, 5.6e12, None)] == [
        "0 B", "999 B", "1.00 kB", "12.3 kB", "123 MB", "5.60 TB", "–",
    ]  # fmt: skip
    assert [share(1, 3), share(1, 10**6), share(999_999, 10**6), share(0, 5), share(5, 5), share(1, 0)] == [
        "33.3 %", "< 0.1 %", "> 99.9 %", "0.0 %", "100.0 %", "–",
    ]  # fmt: skip
    assert [change(1, 3), change(3, 1), change(2, 2), change(None, 4)] == ["+2", "−2", "·", "+4"]
    assert (count(1234), seconds(3.14159), seconds(75), seconds(200), seconds(7_500)) == (
        "1,234",
        "3.14 s",
        "75 s",
        "3 min 20 s",
        "2 h 5 min",
    )


def _markup(page: str) -> str:
    """The page's tags only: text may say anything."""
    return "".join(re.findall(r"<[^>]*>", page))


def _dropped(words: str) -> int:
    return len(re.findall(r"headwater why [0-9a-f]{12}", words)) - 20
