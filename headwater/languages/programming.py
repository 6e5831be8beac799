"""The programming language of files, by name and by content, over whole columns.

The order is Linguist's: an editor's modeline, the file name, the interpreter line, the extension (with rules
about the content where languages share it), the content alone. Each step looks only at the files that those
before left open, so that a corpus with file names costs little more than its names.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.languages.rules import CONTENT, MIN_CONTENT, SHARED

HOW = ("modeline", "name", "shebang", "extension", "content")
_MODELINE, _NAME, _SHEBANG, _EXTENSION, _CONTENT = range(5)
HEAD_BYTES = 8 * 1024
"""Of the start of a file, what rules about content see."""

# Confidence says by what the language is known, not how often that is right.
SURE = 1.0
BY_RULE = 0.8
BY_DEFAULT = 0.5

_EMACS = (
    r"\A(?:[^\n]*\n){0,2}[^\n]*-\*-[ \t]*(?:[^\n]*?\b[Mm]ode[ \t]*:[ \t]*)?"
    r"(?P<m>[A-Za-z0-9+#_-]+)[ \t]*(?:;[^\n]*)?-\*-"
)
_VIM_HEAD = r"\A(?:[^\n]*\n){0,4}[^\n]*\b(?:vim?|ex):[^\n]*?\b(?:ft|filetype|syntax)=(?P<m>[A-Za-z0-9_+]+)"
_VIM_TAIL = r"\b(?:vim?|ex):[^\n]*?\b(?:ft|filetype|syntax)=(?P<m>[A-Za-z0-9_+]+)[^\n]*(?:\n[^\n]*){0,5}\z"
_SHEBANG_LINE = r"\A#![ \t]*(?:\S*/env(?:[ \t]+(?:-\S*|\w+=\S*))*[ \t]+)?(?:\S*/)?(?P<i>[A-Za-z_][\w.+-]*)"
_EXEC = r"\A#!(?:[^\n]*\n){1,5}?[^\n]*\bexec\s+(?:\S*/)?(?P<i>[A-Za-z]\w*)[^\n]*\$0"
_TEMPLATE = r"(?i)\.(?:in|tmpl|template|orig|bak|dist|sample|example)$|~$"
_ALIASES = {
    "sh": "Shell", "cpp": "C++", "make": "Makefile", "dosini": "INI", "nroff": "Roff", "groff": "Roff",
    "autoconf": "M4", "config": "M4", "f90": "Fortran", "cperl": "Perl", "latex": "TeX", "plaintex": "TeX",
    "tcl": "Tcl", "rst": "reStructuredText", "vim": "Vim script", "debsources": "", "conf": "", "help": "",
    "lisp-interaction": "Emacs Lisp", "sgml": "XML", "nxml": "XML", "js2": "JavaScript", "outline": "Text",
    "typescriptreact": "TSX", "javascriptreact": "JavaScript", "context": "TeX", "caml": "OCaml",
    "tuareg": "OCaml", "asm": "Assembly", "gas": "Assembly", "changelog": "", "ruby": "Ruby", "bash": "Shell",
    "zsh": "Shell", "python": "Python", "java": "Java", "text": "Text", "perl": "Perl", "php": "PHP",
}  # fmt: skip


class Language(NamedTuple):
    name: str
    type: str
    """``programming``, ``markup``, ``data`` or ``prose``."""
    syntax: str | None
    """What ``code_stats(language := …)`` knows it as: how its comments are written."""


class Detected(NamedTuple):
    """Per file: index into :func:`languages` (-1: none), index into HOW (-1), confidence 0 to 1."""

    language: npt.NDArray[np.int64]
    how: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]


class _Tables(NamedTuple):
    languages: tuple[Language, ...]
    at: dict[str, int]
    names: dict[str, int]
    extensions: dict[str, int]
    shared: dict[str, int]  # extension -> number in SHARED's order
    interpreters: dict[str, int]
    aliases: dict[str, int]


@lru_cache(maxsize=1)
def _tables() -> _Tables:
    text = resources.files("headwater.languages").joinpath("programming_languages.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")][1:]
    known = tuple(Language(row[0], row[1], row[2] or None) for row in rows)
    at = {language.name: i for i, language in enumerate(known)}
    names: dict[str, int] = {}
    extensions: dict[str, int] = {}
    interpreters: dict[str, int] = {}
    aliases: dict[str, int] = {}
    for i, row in enumerate(rows):
        parts = [field.split("|") if field else [] for field in row[3:7]]
        names.update(dict.fromkeys(parts[1], i))
        extensions.update({e: i for e in parts[0] if e not in SHARED})
        for table, values in ((interpreters, parts[2]), (aliases, parts[3])):
            for value in values:
                table.setdefault(value, i)
    aliases.update({alias: at.get(name, -1) for alias, name in _ALIASES.items()})
    return _Tables(known, at, names, extensions, {e: i for i, e in enumerate(SHARED)}, interpreters, aliases)


def languages() -> tuple[Language, ...]:
    """Every language that can be found, by name."""
    return _tables().languages


def detect(path: pa.Array, text: pa.Array) -> Detected:
    """The language of each file from its path (which may be empty) and text; neither has nulls."""
    files = _Files(path, text)
    files.by_modeline()
    files.by_name()
    files.by_shebang()
    files.by_extension()
    files.by_content()
    return Detected(files.language, files.how, files.confidence)


class _Files:
    def __init__(self, path: pa.Array, text: pa.Array) -> None:
        self.tables = _tables()
        self.text = text.cast(pa.large_binary())
        self.head = pc.binary_slice(self.text, 0, HEAD_BYTES)
        name = pc.replace_substring_regex(path, pattern=r"(?s)^.*[/\\]", replacement="")
        # Nothing but ASCII names a language; other bytes need not be taken for text.
        self.name = name.cast(pa.large_string())
        rows = len(text)
        self.language = np.full(rows, -1, dtype=np.int64)
        self.how = np.full(rows, -1, dtype=np.int64)
        self.confidence = np.zeros(rows, dtype=np.float64)
        self.interpreted = np.full(rows, -1, dtype=np.int64)

    def by_modeline(self) -> None:
        head = pc.binary_slice(self.head, 0, 1024)
        marked = _true(pc.match_substring(head, "-*-")) & self.open
        self._settle(np.flatnonzero(marked), head, _EMACS, self.tables.aliases, "m", _MODELINE)
        for part, pattern in ((head, _VIM_HEAD), (pc.binary_slice(self.text, -512, None), _VIM_TAIL)):
            marked = _true(pc.match_substring_regex(part, r"(?:ft|filetype|syntax)=")) & self.open
            self._settle(np.flatnonzero(marked), part, pattern, self.tables.aliases, "m", _MODELINE)

    def by_name(self) -> None:
        rows = np.flatnonzero(self.open)
        found = _lookup(self.name.take(pa.array(rows)), self.tables.names)
        self._put(rows, found, _NAME, SURE)

    def by_shebang(self) -> None:
        rows = np.flatnonzero(self.open & _true(pc.starts_with(self.head, "#!")))
        if not len(rows):
            return
        head = self.head.take(pa.array(rows))
        found = self._interpreter(head, _SHEBANG_LINE)
        runs = self._interpreter(head, _EXEC)
        shell = self.tables.at["Shell"]
        found = np.where((found == shell) & (runs >= 0), runs, found)
        # Files of a typed dialect run by node keep the language of their extension.
        script = found == self.tables.at["JavaScript"]
        known = _lookup(_extension(self.name.take(pa.array(rows))), self.tables.extensions) >= 0
        ts = _true(pc.match_substring_regex(self.name.take(pa.array(rows)), r"(?i)\.[mc]?tsx?$"))
        self._put(rows, np.where(script & (known | ts), -1, found), _SHEBANG, SURE)

    def by_extension(self) -> None:
        name = self.name
        for template in (False, True):
            rows = np.flatnonzero(self.open)
            names = name.take(pa.array(rows))
            if template:
                marked = _true(pc.match_substring_regex(names, _TEMPLATE))
                rows, names = rows[marked], names.filter(pa.array(marked))
                names = pc.replace_substring_regex(names, pattern=_TEMPLATE, replacement="")
                self._put(rows, _lookup(names, self.tables.names), _NAME, SURE)
            for extension in (_double_extension(names), _extension(names)):
                still = self.language[rows] < 0
                found = np.where(still, _lookup(extension, self.tables.extensions), -1)
                self._put(rows, found, _EXTENSION, SURE)
                group = np.where(self.language[rows] < 0, _lookup(extension, self.tables.shared), -1)
                for number in np.unique(group[group >= 0]):
                    self._by_rules(rows[group == number], *list(SHARED.values())[number])

    def _by_rules(
        self, rows: npt.NDArray[np.int64], rules: tuple[tuple[str, str], ...], default: str | None
    ) -> None:
        for language, pattern in rules:
            head = self.head.take(pa.array(rows))
            holds = _true(pc.match_substring_regex(head, "(?m)" + pattern))
            found = np.where(holds, self.tables.at[language], -1)
            self._put(rows, found, _EXTENSION, BY_RULE)
            rows = rows[~holds]
        if default is not None:
            self._put(rows, np.full(len(rows), self.tables.at[default]), _EXTENSION, BY_DEFAULT)

    def by_content(self) -> None:
        rows = np.flatnonzero(self.open & (np.asarray(pc.binary_length(self.text)) > 0))
        if not len(rows):
            return
        head = self.head.take(pa.array(rows))
        known = sorted({language for language, _, _ in CONTENT})
        scores = np.zeros((len(rows), len(known)), dtype=np.int64)
        for language, weight, pattern in CONTENT:
            scores[:, known.index(language)] += weight * _true(
                pc.match_substring_regex(head, "(?m)" + pattern)
            )
        order = np.argsort(-scores, axis=1, kind="stable")[:, :2]
        best, second = (np.take_along_axis(scores, order[:, i : i + 1], 1)[:, 0] for i in range(2))
        settled = (best >= MIN_CONTENT) & (best > second)
        codes = np.array([self.tables.at[language] for language in known])[order[:, 0]]
        self._put(
            rows, np.where(settled, codes, -1), _CONTENT, BY_RULE * (best - second / 2) / np.maximum(best, 1)
        )

    @property
    def open(self) -> npt.NDArray[np.bool_]:
        return self.language < 0

    def _interpreter(self, head: pa.Array, pattern: str) -> npt.NDArray[np.int64]:
        name = _extracted(head, pattern, "i")
        found = _lookup(name, self.tables.interpreters)
        plain = pc.replace_substring_regex(name, pattern=r"[0-9.-]+$", replacement="")
        return np.where(found < 0, _lookup(plain, self.tables.interpreters), found)

    def _settle(
        self,
        rows: npt.NDArray[np.int64],
        text: pa.Array,
        pattern: str,
        table: dict[str, int],
        group: str,
        how: int,
    ) -> None:
        if len(rows):
            name = pc.utf8_lower(_extracted(text.take(pa.array(rows)), pattern, group))
            self._put(rows, _lookup(name, table), how, SURE)

    def _put(
        self,
        rows: npt.NDArray[np.int64],
        found: npt.NDArray[np.int64],
        how: int,
        confidence: float | npt.NDArray[np.float64],
    ) -> None:
        settled = found >= 0
        at = rows[settled]
        self.language[at], self.how[at] = found[settled], how
        self.confidence[at] = confidence[settled] if isinstance(confidence, np.ndarray) else confidence


def _lookup(values: pa.Array, table: dict[str, int]) -> npt.NDArray[np.int64]:
    keys = pa.array(list(table), values.type)
    at = pc.index_in(values, value_set=keys).fill_null(len(table)).to_numpy()
    codes: npt.NDArray[np.int64] = np.array([*table.values(), -1], dtype=np.int64)
    return np.asarray(codes[at], dtype=np.int64)


def _extracted(text: pa.Array, pattern: str, group: str) -> pa.Array:
    """What the group of the pattern matched, as ASCII text; null where it did not."""
    return pc.struct_field(pc.extract_regex(text, pattern=pattern), group).cast(pa.large_string())


def _extension(name: pa.Array) -> pa.Array:
    return pc.utf8_lower(pc.struct_field(pc.extract_regex(name, pattern=r"(?s)(?P<e>\.[^.]+)$"), "e"))


def _double_extension(name: pa.Array) -> pa.Array:
    return pc.utf8_lower(pc.struct_field(pc.extract_regex(name, pattern=r"(?s).(?P<e>\.[^.]+\.[^.]+)$"), "e"))


def _true(mask: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(mask.fill_null(False).to_numpy(zero_copy_only=False), dtype=np.bool_)
