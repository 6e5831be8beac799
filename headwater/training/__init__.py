"""What a training run needs from the library: its recipe, log, checkpoint folders, measures and model card.

The loop itself is ``trainer/``. Of these modules only ``attention`` is about torch.
"""
