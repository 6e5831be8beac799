"""Adapters: the stream's batches in other loaders, documents apart in transformers' models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from headwater.errors import DataMismatch, UsageError
from headwater.lake import Lake
from headwater.sequences import pack

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from torch.utils.data import DataLoader  # noqa: E402, TID253

from headwater.adapters.dataloader import StreamLoader  # noqa: E402
from headwater.adapters.hugging_face import StreamTrainer, documents_are_apart, stream_for  # noqa: E402
from headwater.streaming import stream  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:training on unapproved", "ignore:.*pin_memory.*")

LENGTH = 32


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    words = np.random.default_rng(1).integers(0, 50, (60, 90))
    texts = [" ".join(f"w{w}" for w in row[: 1 + i % 90]) for i, row in enumerate(words)]
    ids = [xxhash.xxh3_128_digest(f"{i}{text}".encode()) for i, text in enumerate(texts)]
    columns = {
        "doc_id": pa.array(ids, pa.binary(16)),
        "text": pa.array(texts, pa.large_string()),
        "source": pa.array(["made"] * len(ids)),
    }
    lake = Lake(tmp_path_factory.mktemp("adapters") / "lake")
    lake.write("book", pa.table(columns))
    pack(lake, "book", sequence_length=LENGTH, vocab_size=300, require_approved=False)
    return lake


def model(attention: str = "sdpa", **options: Any) -> Any:
    config = transformers.LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=LENGTH, attn_implementation=attention, **options,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(
        torch.equal(value, two[key]) if isinstance(value, torch.Tensor) else value == two[key]
        for key, value in one.items()
    )


@pytest.mark.parametrize("pinned", [False, True])
def test_a_plain_data_loader_hands_the_batches_on(lake: Lake, pinned: bool) -> None:
    """Without a GPU torch leaves memory as it is; the batches are the same in any case."""
    direct = list(stream(lake, global_batch_size=4))
    loaded = list(
        DataLoader(stream(lake, global_batch_size=4), batch_size=None, num_workers=0, pin_memory=pinned)
    )
    assert len(direct) == len(loaded) and all(map(same, direct, loaded))


def test_workers_are_refused(lake: Lake) -> None:
    with pytest.raises(UsageError, match="cannot run in DataLoader workers"):
        next(iter(DataLoader(stream(lake, global_batch_size=4), batch_size=None, num_workers=1)))


def test_a_loader_goes_on_from_its_state_on_other_ranks(lake: Lake) -> None:
    whole = list(stream(lake, global_batch_size=4))
    loader = StreamLoader(stream(lake, global_batch_size=4))
    assert len(loader) == len(whole)
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    state = loader.state_dict()
    assert state["next_sequence"] == 12  # what was handed out, not what was read ahead
    ranks = [
        StreamLoader(stream(lake, dp_rank=r, dp_world_size=2, global_batch_size=4), pin_memory=True)
        for r in range(2)
    ]
    for rank in ranks:
        rank.load_state_dict(state)
    for batch, one, two in zip(whole[3:], *ranks, strict=True):
        assert torch.equal(batch["input_ids"], torch.cat([one["input_ids"], two["input_ids"]]))
    with pytest.raises(DataMismatch, match="sequence_length"):
        loader.load_state_dict({**state, "sequence_length": 64})


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_documents_see_only_themselves_in_transformers(lake: Lake, attention: str) -> None:
    """The logits of a document in a packed row are those of the document alone."""
    network = model(attention).eval()
    assert documents_are_apart(network)
    batch = next(b for b in stream(lake, global_batch_size=4) if int(b["segment_ids"].max()) > 0)
    with torch.no_grad():
        packed = network(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"].long(), use_cache=False
        ).logits
        checked = 0
        for row in range(4):
            segments = batch["segment_ids"][row]
            for segment in range(int(segments.max()) + 1):
                inside = segments == segment
                alone = network(input_ids=batch["input_ids"][row, inside][None], use_cache=False).logits[0]
                torch.testing.assert_close(packed[row, inside], alone, rtol=1e-4, atol=1e-5)
                checked += 1
    assert checked > 4


def test_the_probe_sees_a_leak() -> None:
    class Leaky(torch.nn.Module):  # type: ignore[misc]
        """Takes a mask of its own, which switches transformers' reading of positions off."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = model()

        def forward(self, input_ids: Any, **rest: Any) -> Any:
            return self.inner(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), **rest)

    assert not documents_are_apart(Leaky())


def arguments(out: Path, **options: Any) -> Any:
    defaults = {"output_dir": str(out), "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    defaults |= {"report_to": [], "use_cpu": True, "disable_tqdm": True, "max_steps": 2}
    return transformers.TrainingArguments(**{**defaults, **options})


def test_steps_are_cut_into_micro_batches(lake: Lake, tmp_path: Path) -> None:
    args = arguments(tmp_path)
    data = stream_for(args, lake)
    trainer = StreamTrainer(model=model(), args=args, data=data)
    loader = trainer.get_train_dataloader()
    assert args.ignore_data_skip and len(loader) == 2 * (data.num_sequences // 4)
    parts = iter(loader)
    first, second = next(parts), next(parts)
    whole = next(iter(stream(lake, global_batch_size=4)))
    assert set(first) == {"input_ids", "labels", "position_ids"}
    for key, value in first.items():
        assert torch.equal(torch.cat([value, second[key]]), whole[key].long())
    assert loader.step_facts == {
        "first_sequence": 0,
        "count": 4,
        "tokens": int((whole["segment_ids"] >= 0).sum()),
    }


def test_flash_attention_gets_one_row(lake: Lake, tmp_path: Path) -> None:
    """Its kernels look at positions in a batch of one only. Here the name alone decides: no GPU runs."""
    args = arguments(tmp_path)
    network = model()
    network.config._attn_implementation_internal = "flash_attention_2"
    trainer = StreamTrainer(model=network, args=args, data=stream_for(args, lake))
    part = next(iter(trainer.get_train_dataloader()))
    whole = next(iter(stream(lake, global_batch_size=4)))
    for key, value in part.items():
        assert value.shape == (1, 2 * LENGTH)
        assert torch.equal(value, whole[key][:2].reshape(1, -1).long())


def test_arguments_that_do_not_fit_are_refused(lake: Lake, tmp_path: Path) -> None:
    args = arguments(tmp_path)
    with pytest.raises(UsageError, match="steps take 8 sequences or change, the training arguments take 4"):
        StreamTrainer(model=model(), args=args, data=stream(lake, global_batch_size=8))
    other = arguments(tmp_path, restore_callback_states_from_checkpoint=True)
    trainer = StreamTrainer(model=model(), args=other, data=stream_for(other, lake))
    with pytest.raises(UsageError, match="callback without its stream"):
        trainer.train()


def test_a_missing_library_is_named() -> None:
    code = (
        "import sys; sys.modules['torchtitan'] = None\n"
        "try:\n    import headwater.adapters.torchtitan\n"
        "except Exception as error:\n    print(type(error).__name__, error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "UsageError pip install torchtitan"
