"""Many samples of many prompts from a model folder, in batches.

Prompts of one length go through the model together, so nothing is padded and nothing masked; what is finished
leaves the batch. Shapes: B rows, V ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from headwater.errors import BadInput, MissingExtra

BATCH_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class Sample:
    """``prompt`` is its number in the list that was asked for, ``sample`` counts from 0 for each prompt."""

    prompt: int
    sample: int
    text: str
    num_tokens: int


class Sampler(Protocol):
    """Draws texts. ``name`` and ``version`` say what wrote them."""

    name: str
    version: str

    def sample(
        self,
        prompts: Sequence[str],
        *,
        samples: int,
        temperature: float,
        top_k: int,
        max_tokens: int,
        seed: int,
    ) -> Iterator[Sample]:
        """``samples`` continuations of each prompt, in any order; greedy at temperature 0."""
        ...


class LocalSampler:
    """Samples from a folder that this project's trainer exported (or any other that transformers reads).

    ``control`` is a special token that stands before every prompt, as ``pack`` puts it before a document. The
    same model, prompts, settings and seed give the same texts on the same machine; sums of floating-point
    numbers differ between machines, so texts may, too.
    """

    def __init__(self, folder: Path, *, control: str | None = None, device: str | None = None) -> None:
        try:
            import torch
            from transformers import AutoModelForCausalLM
        except ImportError as error:
            raise MissingExtra.of(error.name or "transformers", "train") from None
        from headwater.quiet import quiet_transformers
        from headwater.tokenizer import Encoder
        from headwater.training.initial_weights import weights_digest

        self.name = f"local:{folder.name}"
        self.version = weights_digest(folder)
        self._torch: Any = torch
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._encoder = Encoder((folder / "tokenizer.json").read_text(encoding="utf-8"), fast=False)
        self._control = [] if control is None else [self._encoder.special_id(control)]
        try:
            with quiet_transformers():
                model = AutoModelForCausalLM.from_pretrained(
                    folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
                )
        except Exception as error:  # safetensors raises bare Exceptions of its own
            raise BadInput(
                f"cannot read the model in {folder}: {str(error).strip().splitlines()[0]}"
            ) from None
        self._model = model.eval().to(self._device)

    def sample(
        self,
        prompts: Sequence[str],
        *,
        samples: int,
        temperature: float,
        top_k: int,
        max_tokens: int,
        seed: int,
    ) -> Iterator[Sample]:
        encoded = self._encoder.encode(pa.array(prompts, pa.large_string())).to_pylist()
        by_length: dict[int, list[tuple[int, int]]] = {}
        for number, ids in enumerate(encoded):
            rows = by_length.setdefault(len(ids), [])
            rows.extend((number, i) for i in range(samples))
        draw = self._torch.Generator().manual_seed(seed) if temperature > 0 else None
        for length in sorted(by_length):
            rows = by_length[length]
            for start in range(0, len(rows), BATCH_ROWS):
                part = rows[start : start + BATCH_ROWS]
                # A prompt without tokens begins where documents begin: after an end of text.
                begin = self._control or ([] if length else [self._encoder.eos_id])
                ids = [[*begin, *encoded[number]] for number, _ in part]
                for (number, i), new in zip(
                    part, self._batch(ids, draw, temperature, top_k, max_tokens), strict=True
                ):
                    yield Sample(prompt=number, sample=i, text=self._encoder.decode(new), num_tokens=len(new))

    def _batch(
        self, ids: list[list[int]], draw: Any, temperature: float, top_k: int, max_tokens: int
    ) -> list[list[int]]:
        """The new ids of each row, without the end of text."""
        torch, eos = self._torch, self._encoder.eos_id
        longest = getattr(self._model.config, "max_position_embeddings", None) or len(ids[0]) + max_tokens
        new: list[list[int]] = [[] for _ in ids]
        rows = list(range(len(ids)))
        current, cache = torch.tensor(ids, device=self._device), None
        with torch.inference_mode():
            for _ in range(min(max_tokens, longest - len(ids[0]))):
                out = self._model(input_ids=current, past_key_values=cache, use_cache=True, logits_to_keep=1)
                logits_BV = out.logits[:, -1, : self._encoder.vocab_size].float().cpu()
                chosen = self._choose(logits_BV, draw, temperature, top_k)
                going = (chosen != eos).tolist()
                for row, token, goes in zip(rows, chosen.tolist(), going, strict=True):
                    if goes:
                        new[row].append(token)
                if not any(going):
                    break
                cache = out.past_key_values
                if not all(going):
                    kept = [i for i, goes in enumerate(going) if goes]
                    rows = [rows[i] for i in kept]
                    index = torch.tensor(kept)
                    chosen = chosen[index]
                    cache.batch_select_indices(index.to(self._device))
                current = chosen[:, None].to(self._device)
        return new

    def _choose(self, logits_BV: Any, draw: Any, temperature: float, top_k: int) -> Any:
        if draw is None:
            return logits_BV.argmax(-1)
        if not top_k:
            return self._torch.multinomial((logits_BV / temperature).softmax(-1), 1, generator=draw)[:, 0]
        best, ids = logits_BV.topk(min(top_k, logits_BV.shape[-1]))
        chosen = self._torch.multinomial((best / temperature).softmax(-1), 1, generator=draw)
        return ids.gather(-1, chosen)[:, 0]
