"""Models for ``headwater ablate``: small enough that two cores train a dozen of them in under an hour."""

from recipe import Recipe


def ablation_1m() -> Recipe:
    """1.3 M parameters with a 4k vocabulary. ``headwater ablate`` sets its steps, warm-up and seed."""
    return Recipe(
        hidden_size=128,
        intermediate_size=344,
        num_layers=4,
        num_heads=4,
        num_kv_heads=4,
        global_batch_size=16,
        micro_batch_size=16,
        max_steps=500,
        learning_rate=4e-3,
        min_learning_rate=4e-4,
        warmup_steps=25,
        reshard_after_forward=False,
    )


def ablation_500k() -> Recipe:
    """0.5 M parameters with a 2k vocabulary: twice the tokens in the same time."""
    return Recipe(
        hidden_size=96,
        intermediate_size=256,
        num_layers=3,
        num_heads=3,
        num_kv_heads=3,
        global_batch_size=16,
        micro_batch_size=16,
        max_steps=500,
        learning_rate=6e-3,
        min_learning_rate=6e-4,
        warmup_steps=25,
        reshard_after_forward=False,
    )
