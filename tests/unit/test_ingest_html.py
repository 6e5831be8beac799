"""Pages to text: main content, facts, character sets, and pages that would take too long."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("resiliparse")

from headwater.errors import MissingExtra, UnknownName, UsageError
from headwater.ingest import ingest
from headwater.ingest.charsets import codec_of, decode_page
from headwater.ingest.html import MAX_LINKS, extract
from headwater.ingest.markup import MAX_DEPTH, MAX_NODES, cost_of
from headwater.lake import Lake

PAGE = """<!DOCTYPE html><html lang="de-CH"><head><title>Über
 Flüsse</title><link rel="license" href="https://creativecommons.org/licenses/by/4.0/"></head>
<body><nav><ul><li><a href="/home">Heim</a></li><li><a href="/more">Mehr</a></li></ul></nav>
<main><h1>Flüsse</h1><p>Der Rhein fließt durch die Schweiz. Er ist lang und hat viele Zuflüsse.</p>
<p>Die Aare ist sein <a href="aare.html">größter Zufluss</a> und beginnt in den Berner Alpen.</p></main>
<footer>Text: <a rel="license nofollow" href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</a></footer>
</body></html>"""


def test_main_content_and_facts():
    page = extract(PAGE.encode(), mode="main")
    assert "Rhein fließt" in page.text and "Heim" not in page.text
    assert page.facts["title"] == "Über Flüsse" and page.facts["language"] == "de-CH"
    assert page.facts["num_links"] == 4
    assert page.facts["links"] == [
        "/home",
        "/more",
        "aare.html",
        "https://creativecommons.org/licenses/by/4.0/",
    ]
    assert page.license_declared == "CC-BY-4.0"
    assert [link["tag"] for link in page.facts["license_links"]] == ["link", "a"]
    assert "Heim" in extract(PAGE.encode(), mode="full").text


def test_license_links_that_disagree_declare_nothing():
    two = "<a rel=license href=https://a.org/mit>a</a><a rel=license href=https://b.org/gpl>b</a><p>text"
    page = extract(two.encode(), mode="full")
    assert page.license_declared is None and len(page.facts["license_links"]) == 2
    unknown = extract(b"<a rel=license href=https://a.org/terms>a</a><p>text", mode="full")
    assert unknown.license_declared == "https://a.org/terms"
    mentioned = "<p>see <a href=http://creativecommons.org/licenses/by/4.0/>this</a>"
    page = extract(mentioned.encode(), mode="full")
    assert page.license_declared is None and len(page.facts["license_links"]) == 1


def test_links_are_counted_and_bounded():
    page = extract(b"<p>x" + b"<a href=/" + b"long" * 1_000 + b">l</a>" * 500, mode="full")
    assert page.facts["num_links"] == 1
    page = extract(b"<p>x" + b"".join(b"<a href=/%d>l</a>" % i for i in range(500)), mode="full")
    assert page.facts["num_links"] == 500 and len(page.facts["links"]) == MAX_LINKS
    many = extract(b"<p>x" + b"<a href=/ rel=license>l</a>" * 50_000, mode="full")
    assert many.facts["num_links"] == 50_000 and "links" not in many.facts
    assert len(json.dumps(extract(b"<title>" + b"t" * 100_000 + b"</title>", mode="full").facts)) < 2_000


@pytest.mark.parametrize(
    ("data", "http", "text", "encoding", "said"),
    [
        ("<p>größe".encode(), None, "größe", "utf-8", "detected"),
        ("<p>größe".encode("latin-1"), "iso-8859-1", "größe", "cp1252", "http"),
        ("<p>größe".encode(), "iso-8859-1", "größe", "utf-8", "detected"),
        ("<meta charset=windows-1251><p>река".encode("cp1251"), None, "река", "cp1251", "meta"),
        ("<meta charset=koi8-r><p>река".encode("cp1251"), "windows-1251", "река", "cp1251", "http"),
        ("<p>река".encode("utf-16"), "iso-8859-1", "река", "utf-16-le", "bom"),
        (b"\xef\xbb\xbf<p>x", "latin1", "x", "utf-8", "bom"),
        ("<p>日本".encode("shift_jis"), "Shift_JIS", "日本", "shift_jis", "http"),
        ("<p>日本".encode("iso2022_jp"), "iso-2022-jp", "日本", "iso2022_jp", "http"),
        ("<p>больших рек на равнине много, и все они текут на север".encode("koi8-r"), None,
         "больших рек на равнине много, и все они текут на север", "koi8-r", "detected"),
        (b"<p>x", "no-such-charset", "x", "utf-8", "detected"),
        (b"<p>x", "unicode_escape", "x", "utf-8", "detected"),
    ],
)  # fmt: skip
def test_character_sets(data, http, text, encoding, said):
    page = extract(data, mode="full", charset=http)
    assert (page.text, page.facts["encoding"], page.facts["encoding_from"]) == (text, encoding, said)


def test_bytes_that_are_no_text_are_replaced_and_counted():
    page = extract(b"<meta charset=utf-8><p>caf\xe9 \xff", mode="full")
    assert page.text == "caf\ufffd \ufffd" and page.facts["num_replaced"] == 2
    assert codec_of("idna") is None and codec_of("hex") is None and codec_of("latin1") == "cp1252"


def test_limits_on_both_sides():
    def verdict(page):
        return cost_of(page).problem

    assert verdict(b"<div>" * MAX_DEPTH) is None
    assert "deep" in verdict(b"<div>" * (MAX_DEPTH + 1))
    assert verdict(b"<br>" * MAX_NODES) is None
    assert "elements" in verdict(b"<br>" * (MAX_NODES + 1))
    assert verdict(b"<p " + b"a " * 10_000 + b">") is None
    assert "attributes" in verdict(b"<p " + b"a " * 10_001 + b">")


@pytest.mark.parametrize(
    "page",
    [b"<p>x" * 2_000, b"<ul>" + b"<li><b>x" * 2_000, b"<table>" + b"<tr><td><font color=red>x" * 2_000,
     b"<select>" + b"<option>x" * 2_000, b"<dl>" + b"<dt>a<dd>b" * 2_000, b"<a name=x>" * 2_000,
     b"<script>" + b"<div>" * 2_000 + b"</script>", b"<!--" + b"<div>" * 2_000 + b"-->", b"<div a='" + b"<div>" * 2_000 + b"'>",
     b"<img>" * 2_000, b"<div></div>" * 2_000, b"<div><span>x</div>" * 2_000, b"<b><i>x</b></i>" * 2_000],
)  # fmt: skip
def test_sloppy_pages_are_not_taken_for_deep_ones(page):
    assert cost_of(page).problem is None


@pytest.mark.parametrize(
    "page",
    [b"<div></x>" * 600, b"<div><table><td></div>" * 600, b"<b><div></b>" * 600, b"<!--><div>" * 600,
     b"<!---><div>" * 600, b"<svg><title>" + b"<div>" * 600, b"<svg>" + b"<td>" * 600, b"<select><title>" + b"<div>" * 600,
     b"<![CDATA[><div>]]>" * 600, b"<?x><div>" * 600, b"<div/>" * 600, b"<b>" * 600, b'<div a"b>' * 600,
     b"<b>" * 500 + b"<tr>" + b"<b>" * 500],
)  # fmt: skip
def test_depth_cannot_be_hidden_from_the_pass(page):
    assert "deep" in cost_of(page).problem


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["<div>", "</div>", "<p>", "<b>", "</b>", "<table>", "<td>", "</table>", "<svg>", "<!--", "-->",
                         "<title>", "</title>", "<a href='", "'>", "<select>", "<", ">", "&", "\0", "\u202e", "😀", "<script>",
                         "</script>", "x" * 50, "\n" * 50]) | st.text(max_size=8), max_size=60)
)  # fmt: skip
def test_any_markup_has_text_or_a_reason(parts):
    data = "".join(parts).encode("utf-8", "surrogatepass")
    page = extract(data, mode="main")
    assert (page.text is None) == bool(page.reason)
    if page.text is not None:
        page.text.encode()
        json.dumps(page.facts, ensure_ascii=False).encode()


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300),
    st.none() | st.sampled_from(["utf-8", "utf-16", "shift_jis", "cp1251", "gb18030", "euc-kr"]),
)
def test_any_bytes_decode(data, charset):
    decoded = decode_page(data, charset)
    decoded.text.encode("utf-8", "replace")
    assert decoded.replaced == 0 or "\ufffd" in decoded.text


@pytest.fixture
def site(tmp_path):
    root = tmp_path / "site"
    root.mkdir()
    (root / "page.html").write_text(PAGE)
    (root / "deep.html").write_bytes(b"<div>" * 100_000)
    (root / "empty.html").write_bytes(b"<html><head></head><body></body></html>")
    (root / "notes.txt").write_text("notes")
    return root


def test_a_folder_of_pages(tmp_path, site):
    lake = Lake(tmp_path / "lake")
    report = ingest(lake, "html", site)
    assert (report.documents_added, report.quarantined) == (1, {"empty": 1, "too_complex": 1})
    row = lake.table("raw.documents").to_arrow().to_pylist()[0]
    assert row["path"] == "page.html" and "Rhein" in row["text"]
    assert row["license_declared"] == "CC-BY-4.0"
    assert json.loads(row["metadata"])["title"] == "Über Flüsse"
    again = ingest(lake, "html", site)
    assert not again.changed and again.documents_unchanged == 1


def test_pages_among_other_files_keep_their_order_or_stay_markup(tmp_path, site):
    lake = Lake(tmp_path / "lake")
    ingest(lake, "folder", site, html="full")
    rows = lake.table("raw.documents").to_arrow(["path", "text"]).to_pylist()
    assert [row["path"] for row in rows] == ["notes.txt", "page.html"]
    assert "<main>" not in rows[1]["text"]
    ingest(lake, "folder", site, source="raw")
    rows = lake.table("raw.documents").to_arrow(["path", "source", "text"]).to_pylist()
    assert any("<main>" in row["text"] for row in rows if row["source"] == "raw")


def test_wrong_use(tmp_path, site):
    lake = Lake(tmp_path / "lake")
    with pytest.raises(UnknownName, match="way to read pages"):
        ingest(lake, "html", site, html="text")
    with pytest.raises(UsageError, match="holds no pages"):
        ingest(lake, "jsonl", site / "notes.txt", html="full")


def test_without_the_extra(tmp_path, site, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "resiliparse.extract.html2text", None)
    lake = Lake(tmp_path / "lake")
    with pytest.raises(MissingExtra, match=r"headwater\[web\]"):
        ingest(lake, "html", site)
    assert not lake.exists("raw.documents")


def test_real_pages_of_this_machine_are_all_read():
    pages = [p for p in sorted(Path("/usr/share/doc").rglob("*.html")) if p.is_file() and not p.is_symlink()]
    if len(pages) < 50:
        pytest.skip("no HTML documentation is installed")
    step = max(1, len(pages) // 150)
    for page in pages[::step]:
        found = extract(page.read_bytes(), mode="main")
        assert found.text is not None, (page, found.detail)
