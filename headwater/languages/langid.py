"""langid's model (naive Bayes over byte n-grams), as py3langid ships it, read without the package.

References
----------
Lui and Baldwin, langid.py (ACL 2012); py3langid 0.4 (BSD-3-Clause): ``modelio.py`` (npz in LZMA, no pickle),
``langid.py`` (scores; the root of the length calibrates them).
"""

from __future__ import annotations

import importlib.util
import io
import lzma
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.errors import BadInput, MissingExtra
from headwater.kernels.flat import Bytes
from headwater.kernels.language import bayes


class LangId(NamedTuple):
    labels: tuple[str, ...]
    moves: npt.NDArray[np.uint32]
    rows: npt.NDArray[np.int64]
    features: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    prior: npt.NDArray[np.float32]

    def scores(self, data: Bytes, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """(texts, labels): log posteriors over the root of the length, up to a constant for each text."""
        out = np.empty((len(offsets) - 1, len(self.labels)), dtype=np.float32)
        bayes(data, offsets, self.moves, self.rows, self.features, self.weights, self.prior, out)
        return out


@lru_cache(maxsize=1)
def bundled() -> LangId:
    """The model in the installed package, which is only looked for. Raises MissingExtra or BadInput."""
    spec = importlib.util.find_spec("py3langid")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "data" / "model.npz.xz"
        if path.exists():
            return read(path)
    raise MissingExtra.of("py3langid (for its model)", "language")


def read(path: Path) -> LangId:
    """The model at ``path``; BadInput if it is none of py3langid 0.4."""
    try:
        with np.load(io.BytesIO(lzma.decompress(path.read_bytes())), allow_pickle=False) as data:
            moves, row_of, features = data["nextmove"], data["nextmove_row"], data["out_feat"]
            weights, prior, labels = data["ptc"], data["pc"], data["classes"]
    except (OSError, ValueError, KeyError, EOFError, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is no model of py3langid 0.4: {error}") from None
    rows = row_of.astype(np.int64) * 256
    if moves.dtype.kind != "u" or not (
        len(rows) == len(features) > int(moves.max(initial=0))
        and int(rows.max(initial=0)) + 256 <= len(moves)
        and int(features.max(initial=0)) < len(weights)
        and weights.shape[1:] == prior.shape == labels.shape
    ):
        raise BadInput(f"{path} is no model of py3langid 0.4: its tables do not fit")
    return LangId(
        tuple(str(label) for label in labels),
        np.ascontiguousarray(moves, dtype=np.uint32),
        rows,
        np.ascontiguousarray(features, dtype=np.int32),
        np.ascontiguousarray(weights, dtype=np.float32),
        np.ascontiguousarray(prior, dtype=np.float32),
    )
