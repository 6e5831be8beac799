"""Writes ``dolma_decisions.json``: the values that Dolma's real taggers give every golden document.

``python tests/golden/make_dolma_decisions.py FOLDER``, where FOLDER holds the unpacked ``dolma`` wheel. Only
its pure functions are used (``taggers/gopher.py`` and ``c4.py``: ``get_attributes``), with the rest of the
package, which needs much else, standing in empty.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from importlib.metadata import distributions
from pathlib import Path

HERE = Path(__file__).parent
MAX_CHARS = 200_000  # its n-gram counts are slow


class Registry:
    @staticmethod
    def add(name):
        return lambda tagger: tagger


def module(name, **names):
    made = types.ModuleType(name)
    made.__dict__.update(names)
    sys.modules[name] = made
    return made


def tagger(folder: Path, name: str):
    """``dolma.taggers.<name>`` without the package's own imports."""
    stand_in = type("StandIn", (), {})
    for package in ("dolma", "dolma.core", "dolma.taggers"):
        module(package).__path__ = []
    names = dict.fromkeys(("DocResult", "Document", "Span"), stand_in)
    names["Span"] = lambda start, end, type, score=1.0: (start, end, type, score)
    module("dolma.core.data_types", **names)
    module("dolma.core.registry", TaggerRegistry=Registry)
    module("dolma.core.taggers", BaseTagger=stand_in)
    path = folder / "dolma" / "taggers" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"dolma.taggers.{name}", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def main(folder: Path) -> None:
    gopher, c4 = tagger(folder, "gopher"), tagger(folder, "c4")
    values = {}
    for entry in json.loads((HERE / "documents.json").read_text(encoding="utf-8")):
        text = "".join(part * times for part, times in entry["parts"])
        if len(text) > MAX_CHARS:
            continue
        values[entry["id"]] = {}
        for name, skip in (("dolma", False), ("dolma_v2", True)):
            found = gopher.get_attributes(text, ignore_empty_lines=skip)
            measured = {
                "gopher_words": found.word_count,
                "gopher_word_length": found.median_word_length,
                "gopher_symbol_ratio": found.symbol_to_word_ratio,
                "gopher_alpha_word_share": found.fraction_of_words_with_alpha_character,
                "gopher_stop_words": found.required_word_count,
                "gopher_bullet_line_share": found.fraction_of_lines_starting_with_bullet_point,
                "gopher_ellipsis_line_share": found.fraction_of_lines_ending_with_ellipsis,
                "gopher_dup_line_share": found.fraction_of_duplicate_lines,
                "gopher_dup_line_char_share": found.fraction_of_characters_in_duplicate_lines,
            }
            for n, value in found.fraction_of_characters_in_most_common_ngram:
                measured[f"gopher_top_{n}_gram_share"] = value
            for n, value in found.fraction_of_characters_in_duplicate_ngrams:
                measured[f"gopher_dup_{n}_gram_share"] = value
            values[entry["id"]][name] = measured
        tags = c4.get_attributes(text)
        values[entry["id"]]["c4"] = {
            "curly_bracket": tags.has_curly_brace,
            "lorem_ipsum": tags.has_lorem_ipsum,
            "javascript": "javascript" in text.lower(),  # c4_v2; c4_v1 asks for the whole word
            "lines": tags.line_count,
            "unterminated_lines": len(tags.lines_with_no_ending_punctuation),
            "few_word_lines": len(tags.lines_with_too_few_words),
        }
    found = next(d.version for d in distributions(path=[str(folder)]) if d.name == "dolma")
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items())
    (HERE / "dolma_decisions.json").write_text(
        f'{{"made_with": {json.dumps({"dolma": found})},\n"values": {{\n{lines}\n}}}}\n', encoding="utf-8"
    )
    print(len(values), "documents, dolma", found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
