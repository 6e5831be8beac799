"""Line and comment counts of source code: one pass, a small lexer, no parser.

A line is a comment line when it holds comments or documentation and no code. Documentation is a
triple-quoted string that begins a line outside brackets (after ``def f():`` it is code). Strings that are
not closed end with their line, so that one odd quote cannot swallow a file.
"""

# mypy: disable-error-code="assignment, no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel

COUNTS = (
    "lines",
    "blank_lines",
    "comment_lines",
    "chars",
    "comment_chars",
    "functions",
    "types",
    "imports",
    "mains",
)
_LINES, _BLANK, _COMMENT, _CHARS, _COMMENT_CHARS, _FUNCTIONS, _TYPES, _IMPORTS, _MAINS = range(len(COUNTS))
_FUNCTION, _TYPE, _IMPORT, _MAIN, _MODIFIER = range(5)


class Syntax(NamedTuple):
    """What the lexer knows of a family of languages; the keywords begin a statement."""

    hash_comments: bool
    triple_quotes: bool
    slash_comments: bool
    functions: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    mains: tuple[str, ...] = ()
    modifiers: tuple[str, ...] = ()


SYNTAX = {
    "python": Syntax(
        True, True, False, ("def ",), ("class ",), ("import ", "from "), ("if __name__",), ("async ",)
    ),
    "shell": Syntax(True, False, False, ("function ",), (), ("source ", ". "), ("main ",)),
    "c": Syntax(
        False,
        False,
        True,
        ("func ", "fn ", "function "),
        ("class ", "struct ", "interface ", "enum ", "trait ", "impl "),
        ("import ", "#include", "use ", "using ", "package "),
        ("int main(", "void main(", "fn main(", "func main("),
        ("pub ", "export ", "default ", "public ", "private ", "protected ", "static ", "async ", "abstract ",
         "final ", "const ", "inline ", "extern "),
    ),
}  # fmt: skip


def code_counts(array: pa.Array | pa.ChunkedArray, syntax: Syntax) -> dict[str, npt.NDArray[np.int64]]:
    """Each of COUNTS per document of a text array without nulls."""
    data, offsets = flatten(array)
    words = [
        (word.encode(), kind)
        for kind, group in (
            (_MAIN, syntax.mains),  # first: "fn main(" is also a function, and counts as both
            (_FUNCTION, syntax.functions),
            (_TYPE, syntax.types),
            (_IMPORT, syntax.imports),
            (_MODIFIER, syntax.modifiers),
        )
        for word in group
    ]
    keywords = np.zeros((len(words), 16), dtype=np.uint8)
    lengths = np.array([len(word) for word, _ in words], dtype=np.int64)
    kinds = np.array([kind for _, kind in words], dtype=np.int64)
    for i, (word, _) in enumerate(words):
        keywords[i, : len(word)] = np.frombuffer(word, dtype=np.uint8)
    out = np.zeros((len(offsets) - 1, len(COUNTS)), dtype=np.int64)
    _code_counts(
        data,
        offsets,
        keywords,
        lengths,
        kinds,
        syntax.hash_comments,
        syntax.triple_quotes,
        syntax.slash_comments,
        out,
    )
    return dict(zip(COUNTS, out.T, strict=True))


@inline_kernel
def _keywords(data, at, end, keywords, lengths, kinds, row, out):
    """Counts the statement that begins at ``at``, after its modifiers."""
    again = True
    while again:
        again = False
        for i in range(len(lengths)):
            length = lengths[i]
            if at + length > end:
                continue
            same = True
            for k in range(length):
                if data[at + k] != keywords[i, k]:
                    same = False
                    break
            if not same:
                continue
            if kinds[i] == _MODIFIER:
                at += length
                again = True
                break
            out[row, _FUNCTIONS + kinds[i]] += 1
            if kinds[i] != _MAIN:
                break


@kernel
def _code_counts(
    data: Bytes,
    offsets: Offsets,
    keywords: npt.NDArray[np.uint8],
    lengths: npt.NDArray[np.int64],
    kinds: npt.NDArray[np.int64],
    hash_comments: bool,
    triple_quotes: bool,
    slash_comments: bool,
    out: npt.NDArray[np.int64],
) -> None:
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        line_start = at
        quote = 0  # the byte that opened the string
        triple = False
        documentation = False
        line_comment = block_comment = False
        depth = 0  # brackets
        code = comment = False  # seen on this line
        while at <= end:
            byte = np.int64(data[at]) if at < end else 10
            following = np.int64(data[at + 1]) if at + 1 < end else 0
            third = np.int64(data[at + 2]) if at + 2 < end else 0
            if byte == 10:
                if at < end or at > line_start:
                    out[row, _LINES] += 1
                    out[row, _BLANK] += not (code or comment)
                    out[row, _COMMENT] += comment and not code
                line_comment = code = comment = False
                if quote != 0 and not triple and quote != 96:
                    quote = 0
                out[row, _CHARS] += at < end
                line_start = at + 1
                at += 1
                continue
            size = 1
            blank = byte == 32 or (9 <= byte <= 13)
            begins = not (code or comment or blank)
            if line_comment or block_comment or (quote != 0 and documentation):
                comment = comment or not blank
                inside = True
                if block_comment and byte == 42 and following == 47:
                    block_comment = False
                    size = 2
            else:
                inside = False
            if inside and quote == 0:
                pass  # a comment
            elif quote != 0:
                code = code or not (documentation or blank)
                if byte == 92:
                    # A backslash takes the next byte with it, but a line feed still ends the line.
                    size = 2 if following != 10 and at + 1 < end else 1
                    if following == 10 and not triple:
                        # the string goes on in the next line
                        out[row, _LINES] += 1
                        out[row, _COMMENT] += comment and not code
                        out[row, _CHARS] += 1
                        code = comment = False
                        line_start = at + 2
                        at += 1
                elif byte == quote and not triple:
                    quote = 0
                elif byte == quote and following == quote and third == quote:
                    quote = 0
                    triple = False
                    size = 3
            elif blank:
                pass
            elif (hash_comments and byte == 35) or (slash_comments and byte == 47 and following == 47):
                line_comment = comment = inside = True
            elif slash_comments and byte == 47 and following == 42:
                block_comment = comment = inside = True
                size = 2
            else:
                prefix = 0
                if begins and triple_quotes and depth == 0:
                    while prefix < 2 and at + prefix < end and _is_prefix(data[at + prefix]):
                        prefix += 1
                    if not _is_triple(data, at + prefix, end):
                        prefix = 0
                if byte == 34 or byte == 39 or prefix > 0 or (slash_comments and byte == 96):
                    quote = np.int64(data[at + prefix])
                    triple = triple_quotes and _is_triple(data, at + prefix, end)
                    documentation = triple and begins and depth == 0
                    size = prefix + 3 if triple else 1
                    if documentation:
                        comment = inside = True
                    else:
                        code = True
                else:
                    if begins and depth == 0:
                        _keywords(data, at, end, keywords, lengths, kinds, row, out)
                    code = True
                    if byte == 40 or byte == 91 or (byte == 123 and triple_quotes):
                        depth += 1
                    elif (byte == 41 or byte == 93 or (byte == 125 and triple_quotes)) and depth > 0:
                        depth -= 1
            for i in range(at, min(at + size, end)):
                character = (data[i] & 0xC0) != 0x80
                out[row, _CHARS] += character
                out[row, _COMMENT_CHARS] += character and inside
            at += size


@inline_kernel
def _is_prefix(byte):
    lower = byte | 0x20
    return lower == 114 or lower == 117 or lower == 98 or lower == 102


@inline_kernel
def _is_triple(data, at, end):
    if at + 2 >= end or (data[at] != 34 and data[at] != 39):
        return False
    return data[at + 1] == data[at] and data[at + 2] == data[at]
