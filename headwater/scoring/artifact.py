"""The file a scorer is: weights, calibration curve and where they come from, in the safetensors layout.

Eight bytes with the length of a JSON header, the header, the arrays. Nothing in it is code, and every length,
type and value is checked before it is used. The name of a scorer is its file's content: ``name-xxxxxxxx``
ends in the first eight digits of the SHA-256 of the bytes, and a file that is called so must have them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.errors import BadInput, UnknownName
from headwater.kernels.hashed_ngrams import MAX_BITS, MIN_BITS, linear_scores
from headwater.scoring.calibration import Calibration, checked
from headwater.whole_files import whole_file

FORMAT = 1
SUFFIX = ".safetensors"
NGRAMS, EMBEDDING = "ngrams", "embedding"
KINDS = (NGRAMS, EMBEDDING)
LOWEST, HIGHEST = 0, 5
"""Scores of the rubric."""

MAX_BYTES = 64 << 20
_MAX_HEADER = 4 << 20
_TYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_NAMED = re.compile(r"-([0-9a-f]{8})$")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")

SHIPPED = {"python": Path(__file__).parents[1] / "educational" / f"scorer{SUFFIX}"}
"""Scorers that come with Headwater, by name."""


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A linear model of hashed n-grams or of embeddings, with its calibration."""

    name: str
    kind: str
    weights: npt.NDArray[np.float16] | npt.NDArray[np.float32]
    """By bucket (``ngrams``, 2 to some power of them) or by dimension (``embedding``)."""
    intercept: float
    calibration: Calibration
    embedding_model: str = ""
    """Id of the model whose embeddings it reads."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is known of its making: labels, rubric, lambda, metrics."""

    @property
    def bits(self) -> int:
        """Buckets are 2 to the power of this."""
        return len(self.weights).bit_length() - 1

    def raw(self, texts: pa.Array) -> npt.NDArray[np.float64]:
        """Raw scores of texts without nulls (``ngrams`` only)."""
        return linear_scores(texts, self._wide, self.intercept)

    def raw_of_embeddings(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Raw scores of the rows of ``embeddings`` (``embedding`` only)."""
        return embeddings.astype(np.float64) @ self._wide.astype(np.float64) + self.intercept

    @property
    def _wide(self) -> npt.NDArray[np.float32]:
        cached: npt.NDArray[np.float32] | None = self.__dict__.get("_wide_weights")
        if cached is None:
            cached = self.weights.astype(np.float32)
            cached.flags.writeable = False
            object.__setattr__(self, "_wide_weights", cached)
        return cached

    def to_bytes(self) -> bytes:
        """The file. Equal scorers have equal bytes."""
        arrays = {
            "calibration_knots": self.calibration.knots.astype("<f8"),
            "calibration_values": self.calibration.values.astype("<f8"),
            "intercept": np.array([self.intercept], dtype="<f8"),
            "weights": self.weights,
        }
        said = {
            "format": FORMAT,
            "name": self.name,
            "kind": self.kind,
            "embedding_model": self.embedding_model,
            "facts": dict(self.facts),
        }
        header: dict[str, Any] = {
            "__metadata__": {"headwater_scorer": json.dumps(said, sort_keys=True, ensure_ascii=True)}
        }
        names = {"<f2": "F16", "<f4": "F32", "<f8": "F64"}
        at = 0
        for name, array in arrays.items():
            header[name] = {
                "dtype": names[array.dtype.str],
                "shape": list(array.shape),
                "data_offsets": [at, at + array.nbytes],
            }
            at += array.nbytes
        text = json.dumps(header, sort_keys=True).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + b"".join(a.tobytes() for a in arrays.values())

    @property
    def digest(self) -> str:
        """First eight hex digits of the SHA-256 of the file."""
        return digest_of(self.to_bytes())

    @property
    def file_name(self) -> str:
        """``name-xxxxxxxx.safetensors``."""
        return f"{self.name}-{self.digest}{SUFFIX}"


def digest_of(content: bytes) -> str:
    """How a scorer's file is named."""
    return hashlib.sha256(content).hexdigest()[:8]


def check_scorer_name(name: str) -> str:
    """The name, or BadInput: letters, digits and underscores, so that it can be part of a file's name."""
    if not _NAME.fullmatch(name):
        raise BadInput(f"got {name[:80]!r} as the name of a scorer", hint="letters, digits and underscores")
    return name


def parse(content: bytes, where: str) -> Scorer:
    """The scorer in the bytes of a file; BadInput says what is wrong with them."""
    try:
        return _parsed(content)
    except BadInput as error:
        raise BadInput(f"{where} is no scorer: {error.message}", hint=error.hint) from None
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError, struct.error) as error:
        raise BadInput(
            f"{where} is no scorer: {type(error).__name__}",
            hint="give a file that `headwater scorer export` wrote",
        ) from None


def _parsed(content: bytes) -> Scorer:
    if not 16 <= len(content) <= MAX_BYTES:
        raise BadInput(f"{len(content):,} bytes", hint="give a file that `headwater scorer export` wrote")
    (size,) = struct.unpack_from("<Q", content)
    if size > min(_MAX_HEADER, len(content) - 8):
        raise BadInput("its header is longer than the file, or than any header")
    header = json.loads(content[8 : 8 + size])
    body = memoryview(content)[8 + size :]
    arrays: dict[str, npt.NDArray[Any]] = {}
    covered = 0
    for name in ("calibration_knots", "calibration_values", "intercept", "weights"):
        entry = header[name]
        kind, shape, (start, end) = _TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        is_plain = all(type(n) is int for n in (start, end, *shape)) and len(shape) == 1
        if not is_plain or start != covered or end - start != shape[0] * kind.itemsize or end > len(body):
            raise BadInput(f"the array {name} is not where its header says")
        covered = end
        arrays[name] = np.frombuffer(body[start:end], dtype=kind)
    if covered != len(body) or set(header) != {"__metadata__", *arrays}:
        raise BadInput("it holds more than a scorer")
    said = json.loads(header["__metadata__"]["headwater_scorer"])
    if said["format"] != FORMAT:
        raise BadInput(f"it has format {str(said['format'])[:20]}, this Headwater reads {FORMAT}")
    kind, weights = said["kind"], arrays["weights"]
    if (
        kind not in KINDS
        or not isinstance(said["facts"], dict)
        or not isinstance(said["embedding_model"], str)
    ):
        raise BadInput(f"it is of kind {str(kind)[:20]!r}", hint=f"one of {', '.join(KINDS)}")
    bits = max(len(weights), 1).bit_length() - 1
    if weights.dtype == np.float64 or not np.isfinite(weights).all():
        raise BadInput("its weights are no finite numbers of 16 or 32 bits")
    if kind == NGRAMS and (len(weights) != 1 << bits or not MIN_BITS <= bits <= MAX_BITS):
        raise BadInput(f"it has {len(weights):,} buckets", hint=f"a power of two up to 2 ** {MAX_BITS}")
    if kind == EMBEDDING and (not len(weights) or not said["embedding_model"]):
        raise BadInput("it reads embeddings and does not say which")
    [intercept] = arrays["intercept"].tolist()
    if arrays["intercept"].dtype != np.float64 or not math.isfinite(intercept):
        raise BadInput("its intercept is no finite number")
    if any(arrays[f"calibration_{part}"].dtype != np.float64 for part in ("knots", "values")):
        raise BadInput("its calibration is not in 64 bits")
    curve = checked(arrays["calibration_knots"], arrays["calibration_values"], LOWEST, HIGHEST)
    return Scorer(
        name=check_scorer_name(str(said["name"])),
        kind=kind,
        weights=weights,
        intercept=intercept,
        calibration=curve,
        embedding_model=said["embedding_model"],
        facts=said["facts"],
    )


def read(scorer: str | Path) -> Scorer:
    """The scorer of a path, or one that comes with Headwater by its name.

    A file whose name ends in eight hex digits must have that digest: who names a scorer in a model names
    exactly one, and a model is built again when the name changes.
    """
    path = Path(scorer)
    if str(scorer) in SHIPPED:
        path = SHIPPED[str(scorer)]
    elif path.suffix != SUFFIX and path.name == str(scorer):
        raise UnknownName.of("scorer", scorer, SHIPPED) from None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{path} is no scorer: it has {path.stat().st_size:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"cannot read the scorer {path}: {error.strerror or type(error).__name__}",
            hint="headwater scorer export NAME --to scorers writes one of the lake's to a file",
        ) from None
    named = _NAMED.search(path.stem)
    if named and named[1] != digest_of(content):
        raise BadInput(
            f"{path} is another scorer than its name says: it has the digest {digest_of(content)}",
            hint="export it again, or rename the file (and the model that names it)",
        )
    return parse(content, str(path))


def write(scorer: Scorer, to: str | Path) -> Path:
    """Write the file into the folder ``to`` under its own name, or to a path that ends in .safetensors.

    The file appears whole or not at all.
    """
    target = Path(to)
    if target.suffix != SUFFIX:
        target = target / scorer.file_name
    with whole_file(target, "the scorer") as scratch:
        scratch.write_bytes(scorer.to_bytes())
    return target
