"""``estimate train``: tokens, operations, time and money of a training run, before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headwater.errors import UnknownName, UsageError
from headwater.estimate.rates import measured_rate
from headwater.estimate.recipes import batch_sequences, flops_per_token, parameters_of
from headwater.estimate.scaling import MAX_EPOCHS, Optimum, effective_tokens, optima

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

PEAK_FLOPS = {
    "a100": 312e12,
    "h100": 989e12,
    "h200": 989e12,
    "b200": 2.25e15,
    "l40s": 362e12,
    "l4": 121e12,
    "4090": 165.2e12,
    "mi300x": 1307.4e12,
}
"""Dense bfloat16 FLOP/s with float32 accumulation (the vendors' data sheets, sparse figures halved)."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The packed or counted table that a run would read; ``tokens`` of one epoch."""

    table: str
    tokens: int
    approved: bool


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Tokens a second over all devices, and how that is known."""

    tokens_per_second: float
    devices: int
    source: str


@dataclass(frozen=True, kw_only=True)
class TrainingEstimate:
    """What a run takes. ``None`` stands for what nothing measured or gave."""

    recipe: str | None
    parameters: float
    tokens: float
    tokens_from: str
    flops_per_token: float
    flops: float
    tokens_per_parameter: float
    optima: tuple[Optimum, ...]
    """For this number of parameters."""
    optima_for_budget: tuple[Optimum, ...]
    """For the same operations."""
    data: Data | None
    epochs: float | None
    effective_tokens: float | None
    speed: Speed | None
    seconds: float | None
    gpu_hours: float | None
    cost: float | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def find_data(lake: Lake, name: str) -> tuple[Table, Data] | None:
    """The packed table: its approved version, or its latest. ``None`` where there is none of the name.

    Raises ``UsageError`` for a table that was not packed.
    """
    from headwater.errors import NotApproved

    if not lake.exists(name):
        return None
    approved = True
    try:
        table = lake.table(name, version="approved")
    except NotApproved:
        table, approved = lake.table(name), False
    facts = table.provenance.extra
    if "num_tokens" not in facts:
        raise UsageError(f"{table.ref} was not packed", hint="headwater pack TABLE, or estimate pack TABLE")
    return table, Data(table=str(table.ref), tokens=int(facts["num_tokens"]), approved=approved)


def given_speed(
    tokens_per_second: float | None,
    mfu: float | None,
    device: str | None,
    devices: int,
    flops: float,
) -> Speed | None:
    """The speed as the caller knows it: a rate over all devices, or a share of their peak."""
    if tokens_per_second is not None:
        return Speed(tokens_per_second=tokens_per_second, devices=devices, source="as given")
    if mfu is None:
        return None
    if device is None:
        raise UsageError("--mfu is a share of a device's peak", hint=f"--device {', '.join(PEAK_FLOPS)}")
    if not 0 < mfu <= 1:
        raise UsageError(f"got an MFU of {mfu}", hint="a share above 0 and at most 1, such as 0.4")
    peak = peak_of(device)
    return Speed(
        tokens_per_second=mfu * peak * devices / flops,
        devices=devices,
        source=f"{100 * mfu:.0f} % of {devices} × {peak / 1e12:,.0f} TFLOP/s ({device}), as given",
    )


def peak_of(device: str) -> float:
    """Peak of a device by its name. Raises ``UnknownName``."""
    if device.lower() not in PEAK_FLOPS:
        raise UnknownName.of("device", device, PEAK_FLOPS)
    return PEAK_FLOPS[device.lower()]


def estimate_training(
    *,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
    parameters: float | None = None,
    tokens: float | None = None,
    data: Data | None = None,
    sequence_length: int = 512,
    vocab_size: int = 8192,
    lake: Lake | None = None,
    tokens_per_second: float | None = None,
    mfu: float | None = None,
    device: str | None = None,
    devices: int = 1,
    price_per_gpu_hour: float | None = None,
) -> TrainingEstimate:
    """Estimate one run.

    Parameters
    ----------
    settings: of the recipe, which gives parameters, operations and planned tokens.
    parameters: of the model, where there is no recipe; a token then takes ``6 N`` operations.
    tokens: to train on; by default the recipe's steps, else the optimum by the rule of 20.
    lake: where past runs of the recipe's shape are looked up for their rate.
    devices: processes; with a measured rate, those of the past run unless it is given otherwise.

    Raises
    ------
    UsageError
        Neither a recipe nor parameters.
    """
    if settings is not None:
        counted = parameters_of(settings, vocab_size, sequence_length)
        size, per_token = float(counted.total), flops_per_token(settings, counted, sequence_length)
    elif parameters is not None:
        size, per_token = parameters, 6.0 * parameters
    else:
        raise UsageError("nothing to estimate", hint="name a recipe, or give --parameters")
    planned, origin = _planned(settings, tokens, sequence_length, size)
    speed = given_speed(tokens_per_second, mfu, device, devices, per_token)
    if speed is None and settings is not None and lake is not None:
        known = measured_rate([lake], settings, sequence_length)
        if known is not None:
            speed = Speed(
                tokens_per_second=known.tokens_per_second, devices=known.world_size, source=known.source
            )
    seconds = planned / speed.tokens_per_second if speed else None
    hours = seconds * speed.devices / 3600 if speed and seconds is not None else None
    epochs = planned / data.tokens if data else None
    return TrainingEstimate(
        recipe=recipe,
        parameters=size,
        tokens=planned,
        tokens_from=origin,
        flops_per_token=per_token,
        flops=per_token * planned,
        tokens_per_parameter=planned / size,
        optima=tuple(optima(parameters=size)),
        optima_for_budget=tuple(optima(flops=per_token * planned)),
        data=data,
        epochs=epochs,
        effective_tokens=effective_tokens(data.tokens, planned) if data else None,
        speed=speed,
        seconds=seconds,
        gpu_hours=hours,
        cost=hours * price_per_gpu_hour if hours is not None and price_per_gpu_hour is not None else None,
        warnings=tuple(_warnings(data, epochs)),
    )


def _planned(
    settings: Mapping[str, Any] | None, tokens: float | None, sequence_length: int, size: float
) -> tuple[float, str]:
    if tokens is not None:
        return tokens, "as given"
    if settings is not None:
        batch = settings["global_batch_size"]
        steps = int(settings["max_steps"])
        if isinstance(batch, list | tuple):
            return float(_ramped(batch, steps) * sequence_length), f"the recipe's {steps:,} steps"
        return float(steps * batch_sequences(settings) * sequence_length), f"the recipe's {steps:,} steps"
    return 20.0 * size, "20 for each parameter"


def _ramped(batch: Any, steps: int) -> int:
    """Sequences in ``steps`` steps of a batch that grows at the first step from a sequence on."""
    done = 0
    for _ in range(steps):
        done += next(int(size) for first, size in reversed(list(batch)) if done >= int(first))
    return done


def _warnings(data: Data | None, epochs: float | None) -> list[str]:
    found = []
    if data is not None and not data.approved:
        found.append(f"{data.table} is not approved: prod does not train on it")
    if epochs is not None and epochs > MAX_EPOCHS:
        found.append(
            f"{epochs:.1f} epochs over {data.table if data else 'the data'}: beyond {MAX_EPOCHS}, repeated "
            "tokens are worth ever less (Muennighoff et al. 2023)"
        )
    return found
