"""The pairs and their index after any additions and deletions equal a full build, caps included."""

import random
import sysconfig
import tempfile
from pathlib import Path

import pyarrow as pa
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.dedup import IncrementalPairs, changes
from headwater.dedup.caps import CAPS, Caps
from headwater.lake import Lake, Provenance
from headwater.operators import operator

VOCABULARY = [f"w{i}" for i in range(30)]
SMALL = Caps(bucket=4, leaders=2, window=1, group=3, cross=4)


def documents(names: list[str], texts: list[str]) -> pa.Table:
    ids = [xxhash.xxh3_128_digest(name.encode()) for name in names]
    return pa.table({"doc_id": pa.array(ids, pa.binary(16)), "text": pa.array(texts, pa.large_string())})


def signatures_of(docs: pa.Table) -> pa.Table:
    fields = operator("minhash_signature")(docs["text"]).flatten()
    names = ["doc_id", "num_shingles", "shingle_set_hash", "minhash"]
    return pa.table([docs["doc_id"], *fields], names=names)


class State:
    """A lake whose documents are replaced; pairs by increment and in full, which must agree."""

    def __init__(self, folder: str, caps: Caps, threshold: float) -> None:
        self.lake = Lake(folder, schema="dev")
        self.caps, self.threshold = caps, threshold

    def move_to(self, docs: pa.Table) -> str:
        self.lake.write("raw.documents", docs)
        self.lake.write("signatures", signatures_of(docs), provenance=Provenance(fingerprint="signatures"))
        pairs = IncrementalPairs(
            signatures=self.lake.table("signatures"),
            documents=self.lake.table("raw.documents"),
            threshold=self.threshold,
            caps=self.caps,
        )
        current = self.lake.table("pairs") if self.lake.exists("pairs") else None
        got, status, _ = pairs.publish(self.lake, "dev.pairs", current, Provenance())
        whole, _, _ = pairs.publish(self.lake, "dev.whole", None, Provenance())
        assert self.lake.table("pairs_index").digest == self.lake.table("whole_index").digest
        assert got.digest == whole.digest
        rows = self.lake.table("pairs").to_arrow().sort_by([("a", "ascending"), ("b", "ascending")])
        assert rows.equals(whole.to_arrow())
        return status


@st.composite
def families(draw: st.DrawFn) -> list[str]:
    """Copies and small edits of a few originals: groups, families and buckets on both sides of every cap."""
    texts = []
    for _ in range(draw(st.integers(1, 4))):
        original = draw(st.lists(st.sampled_from(VOCABULARY), max_size=60))
        for _ in range(draw(st.integers(1, 12))):
            edited = list(original)
            for _ in range(draw(st.integers(0, 2))):
                if edited:
                    edited[draw(st.integers(0, len(edited) - 1))] = draw(st.sampled_from(VOCABULARY))
            texts.append(" ".join(edited))
    return texts


@settings(max_examples=25, deadline=None)
@given(families(), st.sampled_from([0.5, 0.7, 0.9]), st.randoms(use_true_random=False))
def test_increments_equal_a_full_build(texts: list[str], threshold: float, rng: random.Random) -> None:
    docs = documents([str(i) for i in range(len(texts))], texts)
    present = {i for i in range(len(texts)) if rng.random() < 0.7}
    share, changes.REBUILD_SHARE = changes.REBUILD_SHARE, 9.0
    try:
        with tempfile.TemporaryDirectory() as folder:
            state = State(folder, SMALL, threshold)
            for _ in range(4):
                rows = sorted(present, key=lambda _: rng.random())
                state.move_to(docs.take(pa.array(rows, pa.int64())))
                present ^= set(rng.sample(range(len(texts)), rng.randint(0, max(1, len(texts) // 4))))
    finally:
        changes.REBUILD_SHARE = share


def real_files(wanted: int) -> list[tuple[str, str]]:
    """The first Python files of the installed packages, in the order of their names."""
    root = Path(sysconfig.get_path("purelib"))
    found: list[tuple[str, str]] = []
    for package in sorted(path for path in root.iterdir() if path.is_dir()):
        for path in sorted(package.rglob("*.py")):
            if path.stat().st_size < 100_000:
                found.append((str(path.relative_to(root)), path.read_text("utf-8", "replace")))
        if len(found) >= wanted:
            break
    return found[:wanted]


def test_real_files() -> None:
    """Real code, real caps and small ones; a tenth comes, a tenth goes, and comes back."""
    names, texts = zip(*real_files(3_000), strict=True)
    docs = documents(list(names), list(texts))
    rng = random.Random(7)
    order = rng.sample(range(len(names)), len(names))
    tenth = len(order) // 10
    for caps in (CAPS, Caps(bucket=6, leaders=3, window=1, group=2, cross=2)):
        with tempfile.TemporaryDirectory() as folder:
            state = State(folder, caps, 0.7)
            assert state.move_to(docs.take(pa.array(order[tenth:]))) == "built"
            assert state.move_to(docs.take(pa.array(order))) == "extended"
            assert state.move_to(docs.take(pa.array(order[:-tenth]))) == "extended"
            assert state.move_to(docs.take(pa.array(order[tenth:]))) == "extended"
            assert state.lake.table("pairs").num_rows > 50
