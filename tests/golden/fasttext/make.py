"""Makes the models and predictions beside it. Needs fasttext-community (0.11.9 made those that are here):

python tests/golden/fasttext/make.py

Each model is a toy: made-up sentences about food and machines, one thread, so that it comes out the same.
"""

import json
import random
import tempfile
from pathlib import Path

import fasttext

HERE = Path(__file__).parent
WORDS = {
    "food": [
        "soup",
        "bread",
        "cheese",
        "apple",
        "fry",
        "boil",
        "salt",
        "pepper",
        "butter",
        "garlic",
        "kitchen",
        "dinner",
        "rice",
        "tomato",
        "pan",
    ],
    "machine": [
        "engine",
        "gear",
        "piston",
        "motor",
        "fuel",
        "crank",
        "valve",
        "shaft",
        "turbine",
        "bearing",
        "torque",
        "brake",
        "axle",
        "pump",
        "belt",
    ],
    "plant": [
        "leaf",
        "root",
        "stem",
        "flower",
        "seed",
        "grow",
        "garden",
        "soil",
        "petal",
        "branch",
        "tree",
        "bloom",
        "moss",
        "fern",
        "grass",
    ],
}
SHARED = [
    "the",
    "a",
    "with",
    "and",
    "of",
    "for",
    "very",
    "some",
    "more",
    "this",
    "that",
    "was",
    "is",
    "good",
    "old",
]
MODELS = {
    "softmax": {"loss": "softmax", "wordNgrams": 2, "minn": 0, "maxn": 0, "bucket": 2000},
    "hierarchical": {"loss": "hs", "wordNgrams": 1, "minn": 2, "maxn": 4, "bucket": 1500},
    "one_vs_all": {"loss": "ova", "wordNgrams": 3, "minn": 3, "maxn": 3, "bucket": 500},
}
TEXTS = [
    "the soup was very good", "a gear of the old engine", "some flower in the garden", "dinner", "Engine!",
    "bread and turbine", "völlig unbekannt", "soup soup engine engine leaf", "x", "the the the the a a a",
]  # fmt: skip


def main() -> None:
    generator = random.Random(0)
    lines = []
    for _ in range(900):
        label = generator.choice(sorted(WORDS))
        words = generator.choices(WORDS[label], k=4) + generator.choices(SHARED, k=4)
        generator.shuffle(words)
        lines.append(f"__label__{label} {' '.join(words)}")
    expected = {}
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.txt"
        corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for name, settings in MODELS.items():
            model = fasttext.train_supervised(
                str(corpus), dim=4, epoch=20, lr=0.5, thread=1, seed=1, verbose=0, **settings
            )
            model.save_model(str(HERE / f"{name}.bin"))
            expected[f"{name}.bin"] = predictions(model)
            if name == "hierarchical":
                model.quantize(input=str(corpus), cutoff=300, retrain=False, qnorm=True, dsub=2)
                model.save_model(str(HERE / f"{name}.ftz"))
                expected[f"{name}.ftz"] = predictions(model)
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", "utf-8")


def predictions(model: "fasttext.FastText._FastText") -> list[dict]:
    out = []
    for text in TEXTS:
        labels, probabilities = model.predict(text, k=-1)
        pairs = zip(labels, probabilities, strict=True)
        out.append(
            {"text": text, "scores": {k.removeprefix("__label__"): round(float(p), 6) for k, p in pairs}}
        )
    return out


if __name__ == "__main__":
    main()
