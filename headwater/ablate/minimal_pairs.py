"""Minimal pairs: a line of real Python and the same line broken. Which of the two does a model expect?

A pair is a context (the lines before), the real line and a mutant that differs in one place. A model is right
when the real line has the lower loss, summed over its tokens. ``ast`` says that the document parses as it
is and does not with the mutant; for a swapped name, which parses, ``symtable`` says that nothing in sight
defines it. A sum favors short lines, so that every kind whose mutants change the length comes in both
directions, as many shorter as longer (:func:`balanced`): a model that knows only lengths is right in half of
the pairs, as is one that knows nothing.
"""

from __future__ import annotations

import ast
import builtins
import io
import keyword
import symtable
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

KINDS = ("bracket", "colon", "indentation", "name")

MAX_DOCUMENT_BYTES = 40_000
"""Longer documents make no pairs: every mutant costs a parse of its whole document."""

MAX_LINE_CHARACTERS = 160
TRIES = 4
"""Places of one kind and direction that are tried in a document before it gives none."""

CONTEXT_CHARACTERS = 600
"""What a pair shows before its line: whole lines, some 150 to 200 tokens of code."""

CLOSING = ")]}"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """``context + real`` against ``context + mutant``; both lines end in a newline.

    ``length`` is -1, 0 or 1: the mutant has fewer, as many or more characters.
    """

    doc_id: bytes
    kind: str
    line: int
    """1-based, in the document."""
    context: str
    real: str
    mutant: str

    @property
    def length(self) -> int:
        return (len(self.mutant) > len(self.real)) - (len(self.mutant) < len(self.real))


def pairs_of(doc_id: bytes, text: str) -> list[Pair]:
    """At most one pair of each kind and direction from one document; none when it is not Python of today.

    Deterministic: places are tried in an order that the document's id decides.
    """
    if len(text) > MAX_DOCUMENT_BYTES or not parses(text):
        return []
    document = _Document.read(text)
    if document is None:
        return []
    rng = np.random.default_rng(list(doc_id))
    found = []
    for kind, places in (
        ("bracket", document.brackets(rng)),
        ("colon", document.missing_colons()),
        ("colon", document.spurious_colons()),
        ("indentation", document.missing_indentation()),
        ("indentation", document.surplus_indentation()),
    ):
        pair = _first(document, doc_id, kind, _shuffled(list(places), rng), broken=True)
        found += [pair] if pair else []
    names = _shuffled(list(document.undefined_names(rng)), rng)
    for longer in (False, True):
        chosen = [(i, line) for i, line in names if (len(line) > len(document.lines[i])) == longer]
        pair = _first(document, doc_id, "name", chosen, broken=False)
        found += [pair] if pair else []
    return found


def balanced(pairs: Iterable[Pair], count: int) -> list[Pair]:
    """The first pairs of each kind, as many shorter as longer ones: at most ``count``, kinds alike.

    A kind that has too few gives what it has; the others do not fill its place.
    """
    piles: dict[tuple[str, int], list[Pair]] = {}
    for pair in pairs:
        piles.setdefault((pair.kind, pair.length), []).append(pair)
    each = count // len(KINDS)
    chosen: list[Pair] = []
    for kind in KINDS:
        same, fewer, more = (piles.get((kind, length), []) for length in (0, -1, 1))
        half = min(len(fewer), len(more), max(each - len(same), 0) // 2)
        chosen += [*same[:each], *fewer[:half], *more[:half]]
    return chosen


def parses(text: str) -> bool:
    """Whether ``text`` is a Python module to the interpreter that runs here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes and the like
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _first(
    document: _Document, doc_id: bytes, kind: str, places: list[tuple[int, str]], *, broken: bool
) -> Pair | None:
    for index, mutant in places[:TRIES]:
        real = document.lines[index]
        if mutant == real or max(len(real), len(mutant)) > MAX_LINE_CHARACTERS:
            continue
        if parses(document.with_line(index, mutant)) == broken:
            continue
        context = document.before(index)
        if context:
            return Pair(doc_id=doc_id, kind=kind, line=index + 1, context=context, real=real, mutant=mutant)
    return None


def _shuffled(places: list[tuple[int, str]], rng: np.random.Generator) -> list[tuple[int, str]]:
    return [places[i] for i in rng.permutation(len(places))]


class _Document:
    """One parsed module: its lines (with their newline) and tokens."""

    def __init__(self, text: str, tokens: list[tokenize.TokenInfo]) -> None:
        self.text = text
        self.lines = [f"{line}\n" for line in text.split("\n")]
        self.tokens = tokens

    @classmethod
    def read(cls, text: str) -> _Document | None:
        if any(c in text for c in "\r\f\0"):
            return None  # lines would not be what the tokenizer counts
        try:
            return cls(text, list(tokenize.generate_tokens(io.StringIO(text).readline)))
        except (tokenize.TokenError, SyntaxError):
            return None

    def with_line(self, index: int, line: str) -> str:
        return "".join([*self.lines[:index], line, *self.lines[index + 1 :]])

    def before(self, index: int) -> str:
        """Whole lines up to ``CONTEXT_CHARACTERS`` before line ``index``."""
        size, start = 0, index
        while start and size + len(self.lines[start - 1]) <= CONTEXT_CHARACTERS:
            start -= 1
            size += len(self.lines[start])
        return "".join(self.lines[start:index])

    def brackets(self, rng: np.random.Generator) -> Iterator[tuple[int, str]]:
        """A closing bracket of the wrong form."""
        for token in self.tokens:
            if token.type == tokenize.OP and token.string in CLOSING:
                row, column = token.start
                wrong = CLOSING.replace(token.string, "")[int(rng.integers(2))]
                line = self.lines[row - 1]
                yield row - 1, f"{line[:column]}{wrong}{line[column + 1 :]}"

    def missing_colons(self) -> Iterator[tuple[int, str]]:
        """A header without the colon at its end."""
        for before, token in zip(self.tokens, self.tokens[1:], strict=False):
            if token.type == tokenize.NEWLINE and before.string == ":":
                row, column = before.start
                line = self.lines[row - 1]
                yield row - 1, f"{line[:column]}{line[column + 1 :]}"

    def spurious_colons(self) -> Iterator[tuple[int, str]]:
        """A simple statement with a colon at its end."""
        for before, token in zip(self.tokens, self.tokens[1:], strict=False):
            if token.type == tokenize.NEWLINE and before.string != ":" and before.type != tokenize.COMMENT:
                row, column = before.end
                line = self.lines[row - 1]
                yield row - 1, f"{line[:column]}:{line[column:]}"

    def missing_indentation(self) -> Iterator[tuple[int, str]]:
        """The first line of a block, not indented."""
        depth = [""]
        for token in self.tokens:
            if token.type == tokenize.INDENT:
                row = token.start[0]
                line = self.lines[row - 1]
                yield row - 1, depth[-1] + line[len(token.string) :]
                depth.append(token.string)
            elif token.type == tokenize.DEDENT:
                depth.pop()

    def surplus_indentation(self) -> Iterator[tuple[int, str]]:
        """A statement that follows another one in its block, indented once more."""
        begins = True
        previous = ""
        for token in self.tokens:
            if token.type in (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT):
                continue
            if begins and previous not in (":", ""):
                row = token.start[0]
                yield row - 1, f"    {self.lines[row - 1]}"
            begins = token.type == tokenize.NEWLINE
            previous = previous if begins else token.string

    def undefined_names(self, rng: np.random.Generator) -> Iterator[tuple[int, str]]:
        """A local variable, where it is read, replaced by a local of another function of the module."""
        scopes = _Scopes.read(self.text)
        if scopes is None:
            return
        for function, node, name in scopes.reads:
            others = scopes.strangers(function)
            if others:
                wrong = others[int(rng.integers(len(others)))]
                line = self.lines[node.lineno - 1].encode()
                start, end = node.col_offset, node.col_offset + len(name.encode())
                if line[start:end] == name.encode():
                    yield node.lineno - 1, (line[:start] + wrong.encode() + line[end:]).decode()


class _Scopes:
    """Names of a module by function, as ``symtable`` sees them."""

    def __init__(self, module: symtable.SymbolTable, tree: ast.Module) -> None:
        self._everywhere = {s.get_name() for s in module.get_symbols()} | set(dir(builtins))
        self._functions: dict[int, symtable.SymbolTable] = {}
        for table in _functions(module):
            self._functions[table.get_lineno()] = table
            self._everywhere |= {s.get_name() for s in table.get_symbols() if s.is_declared_global()}
        self._locals = {
            line: {s.get_name() for s in table.get_symbols() if s.is_local()}
            for line, table in self._functions.items()
        }
        self.reads = [
            (line, node, node.id)
            for line, function in _nodes(tree)
            for node in ast.walk(function)
            if line in self._functions
            and isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Load)
            and node.id in self._locals[line]
            and node.lineno > line
        ]

    @classmethod
    def read(cls, text: str) -> _Scopes | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
                module = symtable.symtable(text, "document", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        if any(isinstance(n, ast.ImportFrom) and n.names[0].name == "*" for n in ast.walk(tree)):
            return None  # what it defines cannot be told
        return cls(module, tree)

    def strangers(self, function: int) -> list[str]:
        """Locals of other functions that nothing in sight of this one defines, sorted."""
        own = self._everywhere | {s.get_name() for s in self._functions[function].get_symbols()}
        others = set().union(*(names for line, names in self._locals.items() if line != function))
        return sorted(n for n in others - own if n.isidentifier() and not keyword.iskeyword(n))


def _functions(module: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """Functions of the module and methods of its classes that hold no scope of their own.

    Within a nested function or a comprehension a name may be defined by more than one scope.
    """
    for table in module.get_children():
        if table.get_type() == "class":
            yield from (t for t in table.get_children() if _is_plain(t))
        elif _is_plain(table):
            yield table


def _is_plain(table: symtable.SymbolTable) -> bool:
    return str(table.get_type()) == "function" and table.get_name() != "lambda" and not table.get_children()


def _nodes(tree: ast.Module) -> Iterator[tuple[int, ast.AST]]:
    """Functions by the line that ``symtable`` gives them: that of the first decorator, if there is one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield min([node.lineno, *(d.lineno for d in node.decorator_list)]), node
