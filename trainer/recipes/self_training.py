"""Models for ``headwater self-train``: so small that a processor core trains a dozen of them in minutes."""

from recipe import Recipe


def self_training_small() -> Recipe:
    """For texts of some twenty characters and a vocabulary of bytes. The loop sets steps, rates and seed."""
    return Recipe(
        hidden_size=96, intermediate_size=256, num_layers=3, num_heads=3,
        global_batch_size=8, micro_batch_size=8, max_steps=500,
        learning_rate=5e-3, min_learning_rate=5e-4, warmup_steps=25,
        reshard_after_forward=False,
    )  # fmt: skip
