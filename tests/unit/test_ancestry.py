"""A synthetic document's ancestry, back to real ones, whatever the provenance claims; and what was made from one."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

import headwater as hw
from headwater.ancestry import MAX_ANCESTORS, MAX_DEPTH, ancestry, descendants
from headwater.cli import main
from headwater.errors import UnknownName
from headwater.ingest import ingest
from headwater.synthesis.provenance import synthetic_rows
from headwater.why import why


def made(
    texts: list[str], parents: list[list[bytes]], generation: int | list[int] = 1, **more: object
) -> pa.Table:
    return synthetic_rows(
        texts,
        source="made",
        generator="smollm2 [bold]x[/]",
        generator_version="0.1.2",
        prompt_ids=[f"ask {text}" for text in texts],
        parent_ids=parents,
        generations=generation,
        parameters='{"temperature": 0.8}',
        **more,  # type: ignore[arg-type]
    )


def ids(table: pa.Table) -> list[bytes]:
    found: list[bytes] = table["doc_id"].to_pylist()
    return found


Capsys = pytest.CaptureFixture[str]


def told(lake: hw.Lake, document: str, capsys: Capsys) -> str:
    """What ``headwater why`` prints, on a wide terminal."""
    assert main(["--lake", lake.uri, "--target", "dev", "why", document]) == 0
    return capsys.readouterr().out


class Family:
    """Two real documents; a text made from both; two made from that; licenses concluded of one."""

    def __init__(self, folder: Path) -> None:
        self.lake = lake = hw.Lake(folder / "lake")
        lines = [{"id": f"{name}.py", "text": f"real {name}", "license": "MIT"} for name in "ab"]
        (folder / "real.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        ingest(lake, "jsonl", folder / "real.jsonl", origin="human")
        self.real = ids(lake.table("raw.documents").to_arrow(["doc_id"]))
        first = made(["one"], [self.real])
        self.child = ids(first)[0]
        lake.write("synthetic_first", first)
        second = made(
            ["two", "three"],
            [[self.child, self.real[0]], [self.child]],
            2,
            verifier="tests",
            rewards=[1.0, 0.0],
        )
        self.grandchildren = ids(second)
        lake.write("synthetic_second", second)
        prompts = {"prompt_id": ["ask two", "x' or 1=1 --"], "prompt": ["Write about [red]loops[/].", "no"]}
        lake.write("story_prompts", pa.table(prompts))
        licenses = {
            "doc_id": pa.array(self.real[:1], pa.binary(16)),
            "license_spdx": ["MIT"],
            "license_tier": ["silver"],
        }
        lake.write("license_concluded", pa.table(licenses))


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return Family(tmp_path_factory.mktemp("family"))


def test_an_ancestry_ends_at_real_documents_and_their_licenses(family: Family) -> None:
    found = ancestry(family.lake, family.grandchildren[1])
    assert [(one.doc_id, one.depth) for one in found.ancestors] == [
        (family.child.hex(), 1), (family.real[0].hex(), 2), (family.real[1].hex(), 2),
    ]  # fmt: skip
    assert found.depth == 2 and not found.cycle and not found.left_out
    assert found.licenses == {"MIT": 1, "MIT (silver)": 1}
    own = found.document
    assert (own.generator_version, own.generation, own.verifier, own.reward) == ("0.1.2", 2, "tests", 0.0)
    assert own.parameters == {"temperature": 0.8} and own.table == "dev.synthetic_second"
    with pytest.raises(UnknownName):
        ancestry(family.lake, b"?" * 16)


def test_descendants_are_followed_to_the_last(family: Family) -> None:
    found = descendants(family.lake, [family.real[1]])
    assert found.count == 3 and found.by_depth == {1: 1, 2: 2}
    assert found.by_table == {"dev.synthetic_first": 1, "dev.synthetic_second": 2}
    assert set(found.ids.to_pylist()) == {family.child, *family.grandchildren}
    assert descendants(family.lake, family.grandchildren).count == 0


def test_why_tells_both_ways(family: Family) -> None:
    story = why(family.lake, family.grandchildren[0])
    assert story.ancestry is not None and story.ancestry["depth"] == 2 and story.descendants is None
    assert json.loads(json.dumps(story.to_json()))["ancestry"]["ancestors"][0]["parents"]
    real = why(family.lake, family.real[0].hex())
    assert real.ancestry is None and real.descendants is not None and real.descendants["count"] == 3
    assert why(family.lake, "made/ask two").doc_id == family.grandchildren[0].hex()


def test_the_command_shows_a_tree(family: Family, capsys: Capsys) -> None:
    shown = told(family.lake, family.grandchildren[0].hex(), capsys)
    text = shown
    assert "made by smollm2 [bold]x[/] 0.1.2" in text  # a name is no markup
    assert "prompt ask two, generation 2" in text and '{"temperature": 0.8}' in text
    assert "Write about [red]loops[/].  (dev.story_prompts)" in text
    assert "made from 3 documents, 2 steps back" in text
    assert "real/a.py  (human, license MIT (silver))" in text and "stands above" in text
    real = told(family.lake, "a.py", capsys)
    assert "3 synthetic documents were made from it" in real


def test_a_prompt_id_is_a_value_and_no_condition(family: Family) -> None:
    assert ancestry(family.lake, family.grandchildren[1]).prompt is None
    quoted = synthetic_rows(
        ["q"], source="made", generator="g", generator_version="1", prompt_ids=["x' or 1=1 --"]
    )
    family.lake.write("synthetic_quoted", quoted)
    assert ancestry(family.lake, ids(quoted)[0]).prompt == {"table": "dev.story_prompts", "prompt": "no"}


def test_parents_that_are_gone_are_named(tmp_path: Path, capsys: Capsys) -> None:
    lake = hw.Lake(tmp_path / "lake")
    orphan = made(["orphan"], [[b"z" * 16]])
    lake.write("synthetic_orphans", orphan)
    found = ancestry(lake, ids(orphan)[0])
    assert [(one.doc_id, one.table) for one in found.ancestors] == [(b"z".hex() * 16, None)]
    shown = told(lake, ids(orphan)[0].hex(), capsys)
    assert "no table of the lake holds it" in shown


def test_a_cycle_of_parents_ends_and_is_told(tmp_path: Path, capsys: Capsys) -> None:
    lake = hw.Lake(tmp_path / "lake")
    a, b, c = ids(made(["a", "b", "c"], [[], [], []]))
    loop = made(["a", "b", "c"], [[b], [c], [a]], [2, 3, 4])
    lake.write("synthetic_loop", loop)
    found = ancestry(lake, a)
    assert found.cycle and {one.doc_id for one in found.ancestors} == {b.hex(), c.hex()}
    assert descendants(lake, [a]).count == 2
    shown = told(lake, a.hex(), capsys)
    assert "among its own ancestors" in shown


def test_a_document_that_is_its_own_parent_is_a_new_text_of_it(tmp_path: Path) -> None:
    lake = hw.Lake(tmp_path / "lake")
    (a,) = ids(made(["a"], [[]]))
    lake.write("synthetic_redacted", made(["a"], [[a]]))
    found = ancestry(lake, a)
    assert not found.cycle and not found.ancestors
    assert descendants(lake, [a]).count == 0


def test_a_huge_ancestry_is_bounded_and_counted(tmp_path: Path, capsys: Capsys) -> None:
    lake = hw.Lake(tmp_path / "lake")
    many = made([f"t{i}" for i in range(3_000)], [[]] * 3_000)
    lake.write("synthetic_many", many)
    child = made(["child"], [ids(many)], 2)
    lake.write("synthetic_child", child)
    found = ancestry(lake, ids(child)[0])
    assert len(found.ancestors) == MAX_ANCESTORS and found.left_out == 2_000
    shown = told(lake, ids(child)[0].hex(), capsys)
    assert "2,000 more are not followed" in shown and len(shown.splitlines()) < 100
    assert descendants(lake, ids(many)[:2_000]).count == 1


def test_a_chain_without_end_is_cut(tmp_path: Path) -> None:
    lake = hw.Lake(tmp_path / "lake")
    length = MAX_DEPTH + 20
    chain = ids(made([f"t{i}" for i in range(length)], [[]] * length))
    parents = [[], *([one] for one in chain[:-1])]
    lake.write("synthetic_chain", made([f"t{i}" for i in range(length)], parents, list(range(1, length + 1))))
    found = ancestry(lake, chain[-1])
    assert found.depth == MAX_DEPTH and found.left_out == 1
    assert descendants(lake, chain[:1]).count == MAX_DEPTH
