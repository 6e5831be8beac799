"""Export a checkpoint to a Hugging Face folder: ``python trainer/export_hf.py CHECKPOINT --out DIR``.

The folder loads with ``AutoModelForCausalLM`` and ``AutoTokenizer`` and carries a model card that names
the tables, versions, approvals and tokens that the weights came of.
"""

# ruff: noqa: TID253  (the trainer is about torch)

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from model import build_model
from recipe import Recipe
from tokenizers import Tokenizer
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from headwater.errors import DataMismatch, HeadwaterError, UnknownName, UsageError
from headwater.lake import Lake
from headwater.tokenizer import Encoder
from headwater.tokenizer import load as load_tokenizer
from headwater.training.checkpoints import STATE_FILE, damage, one_before, read_state
from headwater.training.model_card import card_facts, model_card


def export(checkpoint: Path, out: Path, lake: Lake, *, dtype: str = "float32") -> Path:
    """Write ``checkpoint`` (``runs/RUN/step-N``) as a Hugging Face folder; returns ``out``.

    One process, on the CPU, whatever number of ranks wrote the checkpoint. The folder appears whole or not
    at all. ``dtype`` is that of the stored weights: ``float32``, as trained, or ``bfloat16``.

    Raises
    ------
    UsageError
        No finished checkpoint, or ``out`` is there.
    DataMismatch, UnknownName
        The checkpoint is damaged, or the lake lacks the tokenizer or the log of the run.
    """
    if not (checkpoint / STATE_FILE).is_file():
        raise UsageError(f"{checkpoint} is not a finished checkpoint", hint="give a folder runs/RUN/step-N")
    if out.exists():
        raise UsageError(f"{out} is there already", hint="choose another --out, or remove it")
    if wrong := damage(checkpoint):
        raise DataMismatch(f"{checkpoint} is damaged: {'; '.join(wrong)}", hint=one_before(checkpoint))
    state = read_state(checkpoint)
    encoder = load_tokenizer(lake, state["loader"]["tokenizer_id"])
    facts = card_facts(lake, checkpoint.parent.name, int(state["step"]))
    model = load_model(checkpoint, state, encoder)
    named = {"model": type(model).__name__, "num_parameters": model.num_parameters()}
    card = model_card(lake, facts, encoder, **named)
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    disable_progress_bar()  # of one shard
    model.to(getattr(torch, dtype)).save_pretrained(unfinished)
    save_tokenizer(encoder, int(state["loader"]["sequence_length"]), unfinished)
    (unfinished / "README.md").write_text(card, encoding="utf-8")
    unfinished.rename(out)
    return out


def load_model(checkpoint: Path, state: dict[str, Any], encoder: Encoder) -> PreTrainedModel:
    """The checkpoint's model on the CPU in float32, ready to generate."""
    known = {field.name for field in dataclasses.fields(Recipe)}
    unknown = sorted(state["config"].keys() - known)
    if unknown:
        raise UnknownName.of("recipe setting", unknown[0], known, where=str(checkpoint))
    recipe = dataclasses.replace(Recipe(**state["config"]), attention="dense", param_dtype="float32")
    model = build_model(recipe, encoder.vocab_size, int(state["loader"]["sequence_length"]))
    weights = {"model": get_model_state_dict(model)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it is one process: it is meant to be
        dcp.load(weights, checkpoint_id=checkpoint, no_dist=True)
    set_model_state_dict(model, weights["model"])
    model.config.use_cache = model.generation_config.use_cache = True
    model.config.eos_token_id = model.generation_config.eos_token_id = encoder.eos_id
    model.config.bos_token_id = model.generation_config.bos_token_id = None
    model.generation_config.pad_token_id = encoder.eos_id
    return model.eval()


def save_tokenizer(encoder: Encoder, sequence_length: int, folder: Path) -> None:
    """``tokenizer.json`` as it was trained with, and the files that ``AutoTokenizer`` reads beside it."""
    eos = encoder.decode([encoder.eos_id])
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(encoder.json),
        eos_token=eos,
        pad_token=eos,
        model_max_length=sequence_length,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="export_hf.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("checkpoint", type=Path, help="folder of a checkpoint: runs/RUN/step-N")
    add("--out", type=Path, required=True, help="folder to write; must not be there")
    add("--lake", default="lake", help="path or URI of the lake that the run was logged to")
    add("--target", default="dev", help="schema of the lake")
    add("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the stored weights")
    args = parser.parse_args(argv)
    try:
        out = export(args.checkpoint, args.out, Lake(args.lake, schema=args.target), dtype=args.dtype)
    except HeadwaterError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
