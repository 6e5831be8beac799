"""Llama-type models, each named for its size and the hardware it was set for."""

from recipe import Recipe


def llama_1m_cpu() -> Recipe:
    """1.2 M parameters with an 8k vocabulary, for two processor cores: the demo, and continuous tests."""
    return Recipe(
        hidden_size=96,
        intermediate_size=256,
        num_layers=4,
        num_heads=4,
        num_kv_heads=4,
        global_batch_size=8,
        micro_batch_size=4,
        max_steps=64,
        learning_rate=6e-3,
        min_learning_rate=6e-4,
        warmup_steps=8,
        reshard_after_forward=False,
        checkpoint_every=32,
    )


def llama_124m_gpu() -> Recipe:
    """124 M parameters, the shape of GPT-2 small, for one or more GPUs with 24 GB."""
    return Recipe(
        hidden_size=768,
        intermediate_size=2048,
        num_layers=12,
        num_heads=12,
        num_kv_heads=12,
        global_batch_size=256,
        micro_batch_size=8,
        max_steps=20_000,
        learning_rate=6e-4,
        min_learning_rate=6e-5,
        warmup_steps=700,
        param_dtype="bfloat16",
        reshard_after_forward=False,
        compile=True,
        checkpoint_every=1_000,
    )
