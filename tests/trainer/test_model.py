"""The model: masks equal to documents alone, checkpointing and compilation that change nothing, schedules."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import UnknownName, UsageError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
nn = torch.nn
dispatch = importlib.import_module("torch.utils._python_dispatch")

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

TRAINER = Path(__file__).parents[2] / "trainer"
CPU = torch.device("cpu")
SEGMENTS = [[0] * 10 + [1] * 15 + [-1] * 7, [0] * 32]


@pytest.fixture(scope="module", autouse=True)
def trainer() -> Iterator[SimpleNamespace]:
    """The trainer's modules, imported as the script imports them: by bare name."""
    torch.set_num_threads(1)
    sys.path.insert(0, str(TRAINER))
    names = ("model", "recipe")
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    sys.path.remove(str(TRAINER))


def recipe_of(trainer: SimpleNamespace, **changed: Any) -> Any:
    small = {
        "hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
        "global_batch_size": 2, "micro_batch_size": 2, "max_steps": 100, "learning_rate": 1.0,
        "min_learning_rate": 0.1, "warmup_steps": 10,
    }  # fmt: skip
    return trainer.recipe.Recipe(**{**small, **changed})


GPT2 = {
    "architecture": "GPT2LMHeadModel",
    "intermediate_size": None,
    "num_kv_heads": None,
    "config": {"n_inner": 64, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
}
MODELS = [{}, {"architecture": "Qwen3ForCausalLM", "config": {"head_dim": 8}}, GPT2]


def batch_of(segments: list[list[int]]) -> dict[str, Any]:
    """Random ids in the segments given; positions and labels as the stream makes them."""
    ids = torch.randint(0, 300, (len(segments), len(segments[0])), generator=torch.Generator().manual_seed(1))
    segment_ids = torch.tensor(segments, dtype=torch.int32)
    positions = torch.zeros_like(ids)
    for row, of in enumerate(segments):
        for i in range(1, len(of)):
            same = of[i] == of[i - 1] and of[i] >= 0
            positions[row, i] = positions[row, i - 1] + 1 if same else 0
    labels = torch.where((positions == 0) | (segment_ids < 0), -100, ids)
    sources = torch.zeros(len(segments), int(segment_ids.max()) + 1, dtype=torch.int32)
    return {
        "input_ids": ids, "segment_ids": segment_ids, "position_ids": positions, "labels": labels,
        "segment_sources": sources,
    }  # fmt: skip


def segment_attention(
    query: Any, key: Any, value: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int, *, scale: float,
    window_size: tuple[int, int], enable_gqa: bool,
) -> Any:  # fmt: skip
    """What ``varlen_attn`` computes, by its definition: a causal attention of its own for each document."""
    assert window_size == (-1, 0)
    assert cu_q is cu_k and int((cu_q[1:] - cu_q[:-1]).max()) <= max_q == max_k
    parts = []
    for start, end in zip(cu_q[:-1].tolist(), cu_q[1:].tolist(), strict=True):
        if start < end:
            q, k, v = (t[start:end].transpose(0, 1)[None] for t in (query, key, value))
            attended = nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=scale, enable_gqa=enable_gqa
            )
            parts.append(attended[0].transpose(0, 1))
    return torch.cat(parts)


def gradients(model: Any) -> dict[str, Any]:
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def run(trainer: SimpleNamespace, model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    model.zero_grad()
    losses = trainer.model.token_losses(model, batch)
    losses.sum().backward()
    return losses.detach(), gradients(model)


@pytest.mark.parametrize("changed", MODELS)
def test_a_packed_document_sees_only_itself(trainer: SimpleNamespace, changed: dict[str, Any]) -> None:
    model = trainer.model.build_model(recipe_of(trainer, **changed), 300, 32).eval()
    batch = batch_of(SEGMENTS)
    losses, grads = run(trainer, model, batch)
    assert torch.isfinite(losses).all()
    assert all(torch.isfinite(g).all() for g in grads.values())
    alone = trainer.model.token_losses(
        model, {k: v[:1, 10:25] for k, v in batch.items() if k != "segment_sources"}
    )
    torch.testing.assert_close(losses[:1, 10:24], alone, rtol=1e-4, atol=1e-5)
    assert (losses[0, 24:] == 0).all() and losses[0, 9] == 0  # padding, and the first token of a document


@pytest.mark.parametrize("changed", MODELS)
def test_variable_length_attention_equals_the_dense_mask(
    trainer: SimpleNamespace, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(SEGMENTS)
    dense = trainer.model.build_model(recipe_of(trainer, attention="dense", **changed), 300, 32)
    varlen = trainer.model.build_model(recipe_of(trainer, attention="varlen", **changed), 300, 32)
    with pytest.raises(NotImplementedError):  # torch has it for CUDA only
        run(trainer, varlen, batch)
    monkeypatch.setattr("headwater.training.attention.varlen_attn", segment_attention)
    expected, expected_gradients = run(trainer, dense, batch)
    found, found_gradients = run(trainer, varlen, batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, rtol=1e-3, atol=1e-5)
    # Without bounds it is plain causal attention, as generation wants it.
    torch.testing.assert_close(
        varlen(input_ids=batch["input_ids"]).logits, dense(input_ids=batch["input_ids"]).logits,
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip


@pytest.mark.skipif(not torch.cuda.is_available(), reason="varlen_attn has CUDA kernels only")
@pytest.mark.parametrize("changed", MODELS)
def test_on_a_gpu_variable_length_attention_equals_the_dense_mask(
    trainer: SimpleNamespace, changed: dict[str, Any]
) -> None:
    device = torch.device("cuda")
    batch = {key: value.to(device) for key, value in batch_of(SEGMENTS).items()}
    found = []
    for attention in ("dense", "varlen"):
        recipe = recipe_of(trainer, attention=attention, **changed)
        model = trainer.model.build_model(recipe, 300, 32, device).to(torch.bfloat16)
        found.append(run(trainer, model, batch))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=2e-2, atol=2e-2)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=5e-2, atol=5e-2)


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_bounds_are_where_documents_begin(lengths: list[list[int]]) -> None:
    attention = importlib.import_module("headwater.training.attention")
    longest = max(sum(row) for row in lengths)
    segments = [
        [i for i, n in enumerate(row) for _ in range(n)] + [-1] * (longest - sum(row)) for row in lengths
    ]
    pieces = [[*row, longest - sum(row)] if sum(row) < longest else row for row in lengths]
    most = len(lengths) * (max(map(len, lengths)) + 1)
    bounds = attention.document_bounds(torch.tensor(segments, dtype=torch.int32), most)
    assert bounds.dtype == torch.int32
    width = len(bounds) - 1
    assert width >= most and width & (width - 1) == 0
    sizes = bounds.diff().tolist()
    expected = [n for row in pieces for n in row]
    assert sizes == expected + [0] * (width - len(expected))
    assert bounds[0] == 0 and bounds[-1] == len(lengths) * longest


def test_without_masks_a_row_is_one_context(trainer: SimpleNamespace) -> None:
    batch = batch_of(SEGMENTS)
    model = trainer.model.build_model(recipe_of(trainer, document_masks=False), 300, 32)
    logits = model(input_ids=batch["input_ids"]).logits[:, :-1]
    wanted = nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="none"
    )
    torch.testing.assert_close(trainer.model.token_losses(model, batch).flatten(), wanted)


class Counted(dispatch.TorchDispatchMode):
    """Counts matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.products += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def sharded(trainer: SimpleNamespace, mesh: Any, **changed: Any) -> Any:
    recipe = recipe_of(trainer, **changed)
    model = trainer.model.build_model(recipe, 300, 32)
    trainer.model.shard(model, mesh, recipe)
    return model


@pytest.mark.parametrize("changed", MODELS)
def test_activation_checkpointing_changes_no_gradient(
    trainer: SimpleNamespace, mesh: Any, changed: dict[str, Any]
) -> None:
    """Full repeats the blocks' products, selective none of them."""
    batch, found, products = batch_of(SEGMENTS), {}, {}
    for kind in ("none", "full", "selective"):
        model = sharded(trainer, mesh, activation_checkpointing=kind, **changed)
        with Counted() as counted:
            found[kind] = run(trainer, model, batch)
        products[kind] = counted.products
    for kind in ("full", "selective"):
        assert torch.equal(found[kind][0], found["none"][0])
        for name, gradient in found["none"][1].items():
            torch.testing.assert_close(found[kind][1][name].full_tensor(), gradient.full_tensor())
    assert products["selective"] == products["none"] < products["full"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.parametrize("checkpointing", ["none", "selective"])
def test_compiled_blocks_compute_the_same(trainer: SimpleNamespace, mesh: Any, checkpointing: str) -> None:
    batch = batch_of(SEGMENTS)
    eager = run(trainer, sharded(trainer, mesh), batch)
    model = sharded(trainer, mesh, compile=True, activation_checkpointing=checkpointing)
    compiled = run(trainer, model, batch)
    torch.testing.assert_close(compiled[0], eager[0], rtol=1e-4, atol=1e-5)
    for name, gradient in eager[1].items():
        found = compiled[1][name].full_tensor()
        torch.testing.assert_close(found, gradient.full_tensor(), rtol=1e-3, atol=1e-5)
    assert all("_orig_mod" not in name for name, _ in model.named_parameters())


def test_low_precision_trains_float32_weights(trainer: SimpleNamespace, mesh: Any) -> None:
    model = sharded(trainer, mesh, param_dtype="bfloat16")
    losses, grads = run(trainer, model, batch_of(SEGMENTS))
    assert torch.isfinite(losses).all()
    assert {g.dtype for g in grads.values()} == {p.dtype for p in model.parameters()} == {torch.float32}
    optimizer = trainer.model.make_optimizer(model, recipe_of(trainer))
    decays = [{p.ndim > 1 for p in group["params"]} for group in optimizer.param_groups]
    assert decays == [{True}, {False}] and optimizer.param_groups[1]["weight_decay"] == 0


def test_schedules(trainer: SimpleNamespace) -> None:
    def rates(schedule: str, steps: list[int], decay: int = 0) -> list[float]:
        recipe = recipe_of(trainer, schedule=schedule, decay_steps=decay)
        return [round(trainer.model.learning_rate(recipe, step), 6) for step in steps]

    assert rates("cosine", [1, 5, 10, 55, 100, 101]) == [0.1, 0.5, 1.0, 0.55, 0.1, 0.1]
    assert rates("linear", [10, 55, 100]) == [1.0, 0.55, 0.1]
    assert rates("constant", [5, 10, 55, 100]) == [0.5, 1.0, 1.0, 1.0]
    assert rates("wsd", [10, 79, 80, 85, 100], decay=20) == [1.0, 1.0, 1.0, 0.55, 0.1]


WRONG = [
    ({"architecture": "LlamaForCausalLN"}, "did you mean LlamaForCausalLM"),
    ({"architecture": "LlamaConfig"}, "unknown architecture"),
    ({"config": {"rms_norm_epz": 1e-5}}, "did you mean rms_norm_eps"),
    ({**GPT2, "num_kv_heads": None, "intermediate_size": 64}, "unknown setting 'intermediate_size'"),
    ({"architecture": "MistralForCausalLM", "config": {"sliding_window": 16}}, "sliding_window=16"),
    ({"schedule": "cosin"}, "did you mean cosine"),
    ({"activation_checkpointing": "some"}, "unknown activation_checkpointing"),
]


@pytest.mark.parametrize(("changed", "says"), WRONG)
def test_settings_that_do_not_fit_are_refused(
    trainer: SimpleNamespace, changed: dict[str, Any], says: str
) -> None:
    with pytest.raises((UnknownName, UsageError), match=says):
        trainer.model.build_model(recipe_of(trainer, **changed), 300, 32)


def test_every_recipe_builds_its_model(trainer: SimpleNamespace) -> None:
    """On the meta device, with the vocabulary and length that its docstring names."""
    sizes = {
        "tinystories_10m": (8192, 512, 10),
        "llama_124m_gpu": (50_304, 1024, 124),
        "llama_1b_h200": (32768, 4096, 1074),
    }
    for name, (vocab, length, millions) in sizes.items():
        recipe = trainer.recipe.find_recipe(name)
        with torch.device("meta"):
            model = trainer.model.build_model(recipe, vocab, length, torch.device("meta"))
        assert round(model.num_parameters() / 1e6) == millions, name
    again = trainer.recipe.Recipe(**recipe.to_json())
    assert again.to_json() == recipe.to_json()
    assert dataclasses.replace(recipe, seed=1).to_json() != recipe.to_json()
