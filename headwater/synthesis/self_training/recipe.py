"""What a self-training recipe says: a small TOML file, by name or by path."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from headwater.errors import BadInput, UnknownName, UsageError

FOLDER = Path(__file__).parent / "recipes"

SECTIONS = ("problems", "model", "sample", "fine_tune")
"""Tables of the file. They are for the reader: every setting has one name, whatever it stands under."""

NOT_THE_EXPERIMENT = {"seeds", "rounds", "control"}
"""Settings that leave every single stage as it is: more of them may be asked for later."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One self-training experiment.

    Problems: ``maker`` makes ``train``, ``held_out`` and ``demonstrations`` of them from ``problem_seed``,
    with ``options``; or ``problems`` names a table that is there. Model: the trainer's ``recipe``, trained
    from fresh weights on the demonstrations for ``steps``; or ``base`` names a model folder. Sample:
    ``samples`` for each problem, at ``temperature``, of the ``top_k`` likeliest tokens (0: all), at most
    ``max_tokens`` long; of those that are right ``cap`` for each problem are kept. Fine-tune: ``tune_steps``
    of the *base* at ``tune_learning_rate`` on what the round kept; with ``control`` also on the
    demonstrations, as long.
    """

    name: str
    recipe: str
    tune_steps: int
    tune_learning_rate: float
    maker: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    train: int = 0
    held_out: int = 0
    demonstrations: int = 0
    problem_seed: int = 0
    problems: str = ""
    base: str = ""
    steps: int = 0
    vocab_size: int = 260
    sequence_length: int = 128
    samples: int = 8
    temperature: float = 0.8
    top_k: int = 0
    max_tokens: int = 32
    cap: int = 10
    rounds: int = 2
    seeds: tuple[int, ...] = (0, 1, 2)
    control: bool = True

    def __post_init__(self) -> None:
        made = ("train", "held_out") if self.maker else ()
        for name in (*made, "tune_steps", "samples", "max_tokens", "cap", "rounds"):
            if getattr(self, name) < 1:
                raise UsageError(f"recipe {self.name}: {name} is {getattr(self, name)}, expected at least 1")
        if self.temperature <= 0:
            raise UsageError(f"recipe {self.name}: temperature is {self.temperature}, expected above 0")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise UsageError(f"recipe {self.name}: seeds are {list(self.seeds)}, expected one or more")
        if bool(self.maker) == bool(self.problems):
            raise UsageError(
                f"recipe {self.name}: expected a maker of problems, or problems, a table of them"
            )
        if not self.base and not (self.maker and self.demonstrations > 0 and self.steps > 0):
            raise UsageError(
                f"recipe {self.name} has no base",
                hint="demonstrations of a maker and steps to train on them, or the folder of a base",
            )

    def to_json(self) -> dict[str, Any]:
        """As it stands after a round trip through JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def loop_id(self, problems_digest: str) -> str:
        """Names the experiment in the results: 16 hex digits of what its stages are made with."""
        fixed = {k: v for k, v in self.to_json().items() if k not in NOT_THE_EXPERIMENT}
        return key_of(fixed, problems_digest)


def key_of(*parts: Any) -> str:
    """A digest of plain data, 16 hex digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def recipe_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find_recipe(name: str) -> Recipe:
    """A recipe of the library by name, or the file at that path.

    Raises ``UnknownName``, ``BadInput`` or ``UsageError``.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise UnknownName.of("self-training recipe", name, recipe_names())
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"cannot read the recipe {path}: {error}", hint="a file in TOML") from None
    settings: dict[str, Any] = {"name": path.stem}
    for key, value in given.items():
        settings |= value if key in SECTIONS and isinstance(value, dict) else {key: value}
    return _recipe(settings, str(path))


def _recipe(settings: dict[str, Any], where: str) -> Recipe:
    known = {each.name: each for each in fields(Recipe)}
    for name in settings:
        if name not in known:
            raise UnknownName.of("setting", name, known, where=where)
    missing = [
        name
        for name, each in known.items()
        if each.default is MISSING and each.default_factory is MISSING and name not in settings
    ]
    if missing:
        raise BadInput(f"{where} does not say {', '.join(missing)}", hint="see docs/how-to/self-training.md")
    for name, value in settings.items():
        kind = str(known[name].type)
        if kind.startswith("tuple"):
            wrong = not isinstance(value, list) or not all(type(each) is int for each in value)
            settings[name] = value if wrong else tuple(value)
        elif kind == "float":
            wrong = isinstance(value, bool) or not isinstance(value, int | float)
        else:
            types = {"str": str, "int": int, "bool": bool}
            wrong = type(value) is not types.get(kind, dict)
        if wrong:
            raise BadInput(f"{where}: {name} is {value!r}", hint=f"expected {kind}")
    return Recipe(**settings)
