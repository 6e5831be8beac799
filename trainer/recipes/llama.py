"""Llama-type models, each named for its size and the hardware it was set for."""

from recipe import Recipe


def llama_1m_cpu() -> Recipe:
    """1.2 M parameters with an 8k vocabulary, for two processor cores: the demo, and continuous tests."""
    return Recipe(
        hidden_size=96, intermediate_size=256, num_layers=4, num_heads=4,
        global_batch_size=8, micro_batch_size=4, max_steps=64, checkpoint_every=32,
        learning_rate=6e-3, min_learning_rate=6e-4, warmup_steps=8,
        reshard_after_forward=False,
    )  # fmt: skip


def tinystories_10m() -> Recipe:
    """10 M parameters with an 8k vocabulary, for TinyStories (arXiv 2305.07759) on a few cores or any GPU.

    Pack with ``--sequence-length 512``: a story has some 200 tokens. 6,000 steps are 200 M tokens, 20 for
    each parameter (Chinchilla, arXiv 2203.15556).
    """
    return Recipe(
        hidden_size=320, intermediate_size=864, num_layers=6, num_heads=5,
        global_batch_size=64, micro_batch_size=8, max_steps=6_000,
        learning_rate=2e-3, min_learning_rate=2e-4, warmup_steps=200,
        reshard_after_forward=False, prompts=("Once upon a time", "The little dog"),
    )  # fmt: skip


def llama_124m_gpu() -> Recipe:
    """124 M parameters, the shape of GPT-2 small, for one or more GPUs with 24 GB."""
    return Recipe(
        hidden_size=768, intermediate_size=2048, num_layers=12, num_heads=12,
        global_batch_size=256, micro_batch_size=8, max_steps=20_000, checkpoint_every=1_000,
        learning_rate=6e-4, min_learning_rate=6e-5, warmup_steps=700,
        param_dtype="bfloat16", reshard_after_forward=False, compile=True,
    )  # fmt: skip


def llama_1b_h200() -> Recipe:
    """1.07 B parameters with a 32k vocabulary and 4k context, for one GPU with 141 GB.

    In GB, computed, not measured. Weights: 4.3 in float32, 2.1 in bfloat16 (``reshard_after_forward=False``
    keeps them); gradients: 4.3 in float32, and 4.3 more while micro-batches add up; moments of AdamW: 8.6.
    Together 23.6. Activations of a micro-batch of 8 x 4,096 = 32,768 tokens, per token and block in
    bfloat16: 8 vectors of 2,048 (inputs of norms and products, queries, attention, residuals) and 1 of
    2,048 for keys with values, 3 of 8,192 (gate, up, product) = 86 kB; over 16 blocks 45. Logits: 32,768
    tokens x 32,768 ids in bfloat16 and float32, with the gradients of both: 12.9. In all some 82 of 141, so
    nothing is computed twice.

    A batch is 256 x 4,096 = 1 M tokens; 20,000 steps are 21 B tokens, 20 for each parameter.
    """
    return Recipe(
        hidden_size=2048, intermediate_size=8192, num_layers=16, num_heads=16, num_kv_heads=8,
        rope_theta=500_000.0,
        global_batch_size=256, micro_batch_size=8, max_steps=20_000, checkpoint_every=1_000,
        learning_rate=4e-4, min_learning_rate=0.0, warmup_steps=1_000, schedule="wsd", decay_steps=4_000,
        param_dtype="bfloat16", reshard_after_forward=False, compile=True,
    )  # fmt: skip
