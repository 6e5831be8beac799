"""``headwater ablate`` and ``headwater estimate`` as a user runs them: real training of a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from headwater.cli import main
from headwater.lake import Lake

RECIPE = """
from recipe import Recipe


def tiny() -> Recipe:
    return Recipe(
        hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2, num_kv_heads=1,
        global_batch_size=4, micro_batch_size=4, max_steps=12, learning_rate=1e-2,
        min_learning_rate=1e-3, warmup_steps=2, checkpoint_every=4,
    )
"""


@pytest.fixture(scope="module")
def place(sample, tmp_path_factory):
    """A lake of its own with a curated table, and a recipe."""
    folder = tmp_path_factory.mktemp("ablate")
    sample.build_sample(folder / "lake")
    (folder / "tiny.py").write_text(RECIPE)
    return folder


@pytest.fixture
def call(place, capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["--lake", str(place / "lake"), "--target", "dev", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def _ablate(place: Path, *more: str) -> list[str]:
    return [
        "ablate", "raw", "python_textbook", "--recipe", f"{place / 'tiny.py'}:tiny", "--tokens", "2k",
        "--sequence-length", "64", "--vocab-size", "300", "--held-out", "0.2", "--held-out-bytes", "20k",
        "--pairs", "12", "--seeds", "1", "--jobs", "2", "--out", str(place / "runs"), *more,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.trainer
def test_an_ablation_trains_measures_and_goes_on(place, call):
    lake = Lake(place / "lake", schema="dev")
    targets = [name for name in lake.tables("dev") if not name.startswith("ablation")]
    before = {name: lake.table(name).version for name in targets}
    code, out, err = call(*_ablate(place, "--page", str(place / "page.html"), "--json"))
    assert code == 0, err
    found = json.loads(out)
    assert [arm["arm"] for arm in found["arms"]] == ["raw", "python_textbook"] and found["missing"] == 0
    parts = {(m["measure"], m["part"]) for m in found["measures"]}
    assert {
        ("bits_per_byte", "raw"),
        ("bits_per_byte", "python_textbook"),
        ("accuracy", "minimal pairs"),
    } <= parts
    for measure in found["measures"]:
        for arm in measure["arms"]:
            low, high = (1.0, 9.0) if measure["measure"] == "bits_per_byte" else (0.0, 1.0)
            assert low <= arm["value"]["mean"] <= high and arm["value"]["n"] == 1
    assert "<svg" in (place / "page.html").read_text()
    # The target's own tables stand as they were.
    assert {name: lake.table(name).version for name in before} == before
    results = lake.table("ablation_results").to_arrow().to_pylist()
    steps = lake.table("ablation.training_steps").to_arrow(["run_id", "step", "tokens"]).to_pylist()
    for run in {r["run_id"] for r in results}:
        trained = [s for s in steps if s["run_id"] == run]
        assert {s["step"] for s in trained} == set(range(1, 8))
        assert sum(s["tokens"] for s in trained) == found["facts"]["tokens"] == 7 * 4 * 64

    # Nothing is trained again.
    code, _, err = call(*_ablate(place))
    assert code == 0 and "2 of them measured" in err
    assert lake.table("ablation_results").num_rows == len(results)

    code, out, _ = call("ablate", "--show")
    assert code == 0 and "bits per byte, raw" in out and "accuracy by kind" in out
    assert "The same in every arm" in out and "Different: which documents" in out


@pytest.mark.slow
@pytest.mark.trainer
def test_a_run_that_fails_names_its_log(place, call):
    (place / "broken.py").write_text(RECIPE.replace("num_heads=2", "num_heads=3"))
    arguments = _ablate(place)
    arguments[arguments.index("--recipe") + 1] = f"{place / 'broken.py'}:tiny"
    code, _, err = call(*arguments)
    assert code == 1 and "train.log" in err and "exit code" in err


def test_wrong_use_of_ablate(call):
    assert call("ablate")[0] == 2
    code, _, err = call("ablate", "raw", "python_textbook", "--family", "size")
    assert code == 2 and "NAME=RULE" in err
    code, _, err = call("ablate", "raw", "python_textbook", "--tokens", "10")
    assert code == 2 and "steps of" in err
    code, _, err = call("ablate", "raw", "python_textbook", "--recipe", "no_such")
    assert code == 2 and "no_such" in err
    assert call("ablate", "raw", "python_textbook", "--tokens", "many")[0] == 2


def test_estimate_train_by_a_recipe(call):
    code, out, err = call("estimate", "train", "llama_124m_gpu", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert 90e6 < found["parameters"] < 130e6 and found["tokens"] == 20_000 * 256 * 512
    assert found["speed"] is None and found["data"] is None
    code, out, _ = call("estimate", "train", "llama_124m_gpu")
    assert code == 0 and "time unknown" in out and "20 tokens per parameter" in out


def test_estimate_train_stops_at_a_cost(call):
    ask = ("estimate", "train", "--parameters", "1B", "--mfu", "0.45", "--device", "h200", "--devices", "8")
    code, out, _ = call(*ask, "--price-per-gpu-hour", "3", "--max-cost", "1000", "--json")
    assert code == 0 and 200 < json.loads(out)["cost"] < 250
    code, _, err = call(*ask, "--price-per-gpu-hour", "3", "--max-cost", "100")
    assert code == 1 and "more than 100.00" in err
    code, _, err = call("estimate", "train", "--parameters", "1B", "--max-cost", "100")
    assert code == 1 and "cannot be told" in err


def test_estimate_a_budget(call):
    code, out, _ = call("estimate", "train", "--flops", "5.76e23", "--json")
    found = json.loads(out)["optima"]
    assert code == 0 and 65e9 < found[0]["parameters"] < 72e9  # Chinchilla itself: 70 B by 1.4 T
    code, out, _ = call("estimate", "train", "--gpu-hours", "500", "--mfu", "0.4", "--device", "h100")
    assert code == 0 and "compute-optimal" in out
    assert call("estimate", "train")[0] == 2
    assert call("estimate", "train", "--flops", "1e20", "--tokens", "1B")[0] == 2
    assert call("estimate", "train", "--gpu-hours", "500")[0] == 2


def test_estimate_pack_and_what_repeats(call, place, tmp_path):
    from headwater.sequences import pack

    lake = Lake(tmp_path / "lake", schema="dev")
    texts = [f"def f{i}(x):\n    return x * {i}\n" * (1 + i % 5) for i in range(60)]
    ids = [i.to_bytes(16, "big") for i in range(60)]
    lake.write("book", pa.table({
        "doc_id": pa.array(ids, pa.binary(16)), "text": pa.array(texts, pa.large_string()),
    }))  # fmt: skip
    made = pack(lake, "book", sequence_length=32, vocab_size=300, require_approved=False)
    where = ("--lake", str(tmp_path / "lake"))
    code, out, err = call(*where, "estimate", "pack", "book", "--sequence-length", "32", "--json")
    assert code == 0, err
    assert json.loads(out)["tokens"] == made.num_tokens
    code, out, _ = call(*where, "estimate", "pack", "book")
    assert code == 0 and "every document is encoded already" in out
    code, _, err = call(*where, "estimate", "train", "llama_1m_cpu", "--tokens", "1M")
    assert code == 0 and "epochs over dev.sequences" in err and "not approved" in err
