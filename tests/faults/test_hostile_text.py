"""Mutated text through every registered operator: no crash, no endless loop, one value a row, the same again.

Seeds are real files of several kinds; a mutation cuts, repeats, splices or poisons them. Arrow strings are
UTF-8, so bytes that are not go through the readers' tests instead. ``HEADWATER_FUZZ=10000`` runs as many
documents through each operator; the default is small enough for every run.
"""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
import sysconfig
from pathlib import Path

import pyarrow as pa
import pytest

from headwater.operators import registered

NUM_DOCUMENTS = int(os.environ.get("HEADWATER_FUZZ", "400"))
LIMIT_BYTES = 6 << 30
"""Address space of the process that reads the giants (LLVM and Arrow reserve some 2 GiB of it unused)."""

NEEDS_AN_ARTIFACT = {"tokens", "text_classifier", "fasttext_classifier"}
"""These take a model or a tokenizer; their own tests make one and feed it hostile text."""

SETTINGS = {
    "blocked_words": {"words": "def\nимпорт\n漢字\n\u202e"},
    "vocabulary": {"words": "def return 1"},
}

POISON = [
    "\0",
    "\u202e\u202d\u2066",  # right-to-left and isolate marks
    "\ufeff",
    "\u200b" * 50,
    "\U0010ffff",
    "e" + "\u0301" * 200,  # one letter under two hundred accents
    "👩‍👩‍👧‍👦" * 20,
    "\r",
    "\u2028\u2029\x85\x0b\x0c",
    "(" * 500,
    "<div>" * 300,
    "a@b." * 200,
    "1" * 400,
    "192.168.0.1:" * 30,
    "-----BEGIN RSA PRIVATE KEY-----",
    "SPDX-License-Identifier: " + "(" * 100 + "MIT OR " * 100,
    "'''" * 99,
    "/*" * 99,
    "\\" * 300,
    "ſİıẞǅﬁ",  # characters whose lower or upper case has another length
    "漢字かな交じり文。" * 20,
    "\t \n" * 100,
]


def seeds() -> list[str]:
    packages = Path(sysconfig.get_paths()["purelib"])
    found = sorted(packages.glob("pytest*/**/*.py"))[:5] + sorted(packages.glob("numpy/**/*.py"))[:40]
    found += sorted(packages.glob("**/*.md"))[:5] + sorted(packages.glob("**/LICENSE*"))[:10]
    found += sorted(packages.glob("**/*.html"))[:3] + sorted(packages.glob("**/METADATA"))[:10]
    files = [path for path in found if path.is_file()]
    return [path.read_text(encoding="utf-8", errors="replace")[:20_000] for path in files]


def mutated(texts: list[str], count: int, seed: int) -> list[str]:
    chance = random.Random(seed)

    def one() -> str:
        text = chance.choice(texts)
        for _ in range(chance.randint(1, 4)):
            at, to = sorted((chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)))
            kind = chance.randrange(6)
            if kind == 0:
                text = text[at:to]
            elif kind == 1:
                text = text[:at] + chance.choice(POISON) + text[at:]
            elif kind == 2:
                text = text[:at] + text[at : at + 200] * chance.randint(2, 20) + text[to:]
            elif kind == 3:
                text = text[:at] + chance.choice(texts)[:2_000] + text[to:]
            elif kind == 4:
                text = "".join(chance.sample(POISON, 5)) + text[at:to].upper()
            else:
                text = text[at:to].replace("\n", chance.choice(["", "\r", "\n\n", " "]))
        return text

    return [one() for _ in range(count)]


def inputs(name: str, texts: list[str]) -> list[pa.Array]:
    """One array for each input of the operator; every one of them hostile."""
    columns = []
    for place, kind in enumerate(registered()[name].inputs.values()):
        values = texts if place == 0 else texts[place:] + texts[:place]
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            columns.append(pa.array([text.encode() for text in values], kind))
        else:
            columns.append(pa.array([text[:200] for text in values] if place else values, kind))
    return columns


def operators() -> list[str]:
    textual = {pa.string(), pa.large_string(), pa.binary(), pa.large_binary()}
    return [
        name
        for name, declared in registered().items()
        if declared.available and set(declared.inputs.values()) <= textual and name not in NEEDS_AN_ARTIFACT
    ]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    real = seeds()
    assert len(real) > 30
    return ["", " ", "\n", *POISON, *mutated(real, NUM_DOCUMENTS, seed=1)]


def test_every_operator_is_here_or_named():
    left_out = set(registered()) - set(operators())
    missing_extras = {name for name, declared in registered().items() if not declared.available}
    assert left_out <= NEEDS_AN_ARTIFACT | missing_extras | {"seeded_hash"}, left_out


@pytest.mark.parametrize("name", operators())
def test_mutated_text(name, texts):
    declared = functools.partial(registered()[name], **SETTINGS.get(name, {}))
    whole = declared(*inputs(name, texts))
    assert len(whole) == len(texts) and whole.null_count <= len(texts)
    whole.validate(full=True)
    # One by one and in another batch: what stands beside a document is no part of its value.
    some = texts[:: max(1, len(texts) // 40)]
    again = declared(*inputs(name, some))
    for place, text in enumerate(some):
        if len(registered()[name].inputs) == 1:
            assert declared(*inputs(name, [text]))[0].as_py() == again[place].as_py(), (name, text[:80])


GIANTS = """
import resource, sys
import pyarrow as pa
from headwater.operators import registered
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
declared, settings = registered()[{name!r}], {settings!r}
giants = {{
    "one line of 20 MB": "lorem ipsum dolor " * 1_111_111,
    "one word of 5 MB": "x" * 5_000_000,
    "a million lines": "ab\\n" * 1_000_000,
    "a million equal brackets": "(" * 1_000_000,
    "digits": "4111 1111 1111 1111 " * 50_000,
    "nested markup": "<div>" * 100_000,
    "at signs": "a@" * 500_000,
}}
for what, text in giants.items():
    arrays = [pa.array([text if place == 0 else "name.py"], kind) for place, kind in enumerate(declared.inputs.values())]
    assert len(declared(*arrays, **settings)) == 1
    print(what, flush=True)
"""


@pytest.mark.parametrize("name", operators())
def test_giants_within_a_memory_limit(name):
    """In a process of its own: a crash or an endless loop there is a failure here, not the end of the run."""
    done = subprocess.run(
        [sys.executable, "-c", GIANTS.format(limit=LIMIT_BYTES, name=name, settings=SETTINGS.get(name, {}))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"after {done.stdout.splitlines()[-1:]}: {done.stderr[-1500:]}"
