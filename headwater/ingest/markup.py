"""How much work a page would make for an HTML parser, told in one linear pass before it is parsed.

A parser takes linear time on pages as they are written, and far more on pages made to hurt it: main-content
extraction is quadratic in nesting (5,000 nested ``div`` in 30 kB took 0.6 s), attributes of one tag are
compared with each other (20,000 took 0.9 s), and unclosed ``font`` tags are opened again in every paragraph.
The pass follows the tokenizer and the parts of tree construction that matter for depth (WHATWG HTML,
section 13.2), and where it cannot know it overestimates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headwater.kernels.flat import Bytes
from headwater.kernels.jit import inline_kernel, kernel

MAX_DEPTH = 512
"""Open elements. Chromium's parser keeps the same number (``kMaximumHTMLParserDOMTreeDepth``)."""
MAX_NODES = 300_000
"""Elements. Main-content extraction takes up to 2 µs for each with its text (measured), together 0.6 s. The
longest page among Debian's documentation, all of Node.js's on one page of 8.4 MB, has 207,000."""
MAX_DEPTH_SUM = 20_000_000
MAX_DEPTH_SUM_MAIN = 2_000_000
"""Sum over elements of how deep they are. Plain extraction takes up to 30 ns for each, main-content
extraction up to 0.35 µs (measured): together 0.7 s. A page above the second limit is extracted whole
instead."""
MAX_ATTRIBUTE_PAIRS = 100_000_000
"""Pairs of attributes of one tag, summed over tags: 2.2 ns each (measured), together 0.2 s."""

_PROBLEMS = (
    None,
    f"elements nested more than {MAX_DEPTH} deep",
    f"more than {MAX_NODES} elements",
    "many elements, nested deeply",
    "too many attributes",
)

_PLAIN, _VOID, _AUTO, _ITEM, _CELL, _FORMAT, _ANCHOR, _RAW, _BARRIER, _FOREIGN, _NO_RAW = range(11)
_CLASSES = {
    _VOID: "area base br col embed hr img input link meta param source track wbr",
    # Their end tags may be left out: they close each other, so they nest only inside others that are counted.
    _AUTO: "option optgroup colgroup rp rt rb rtc head body html",
    _ITEM: "p li dt dd",
    _CELL: "tr td th thead tbody tfoot",
    _FORMAT: "b big code em font i s small strike strong tt u",
    _ANCHOR: "a nobr",
    _RAW: "script style textarea title xmp iframe noembed noframes",
    # An end tag does not reach through these.
    _BARRIER: "table object applet marquee template caption",
    _FOREIGN: "svg math",
    _NO_RAW: "select frameset",
}  # fmt: skip

_TABLE = 1 << 10
_OFFSET, _PRIME = 0xCBF29CE484222325, 0x100000001B3  # FNV-1a, 64 bits
_BUCKETS = 1 << 12

Words = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.uint8]
Sums = npt.NDArray[np.int64]


def _hash(name: str) -> int:
    value = _OFFSET
    for byte in name.encode():
        value = ((value ^ byte) * _PRIME) & (2**64 - 1)
    return value


def _class_table() -> tuple[Words, Codes]:
    keys, codes = np.zeros(_TABLE, np.uint64), np.zeros(_TABLE, np.uint8)
    for code, names in _CLASSES.items():
        for name in names.split():
            value = _hash(name)
            at = value & (_TABLE - 1)
            while keys[at]:
                at = (at + 1) & (_TABLE - 1)
            keys[at], codes[at] = value, code
    return keys, codes


_KEYS, _CODES = _class_table()
_TABLE_NAME = _hash("table")


@dataclass(frozen=True, slots=True)
class Cost:
    """What the pass found. ``problem``: why the page must not be parsed, or None."""

    problem: str | None
    main_is_affordable: bool


def cost_of(html: bytes) -> Cost:
    """Linear in the bytes of a page, with at most 512 steps for each end tag."""
    data = np.frombuffer(html, dtype=np.uint8)
    sums = np.zeros(1, np.int64)
    verdict = _scan(data, _KEYS, _CODES, MAX_DEPTH, MAX_NODES, MAX_DEPTH_SUM, MAX_ATTRIBUTE_PAIRS, sums)
    return Cost(_PROBLEMS[verdict], int(sums[0]) <= MAX_DEPTH_SUM_MAIN)


@inline_kernel
def _is_space(byte: int) -> bool:
    return byte == 32 or byte == 9 or byte == 10 or byte == 12 or byte == 13


@inline_kernel
def _is_letter(byte: int) -> bool:
    return 97 <= (byte | 32) <= 122


@inline_kernel
def _lower(byte: int) -> int:
    return byte | 32 if 65 <= byte <= 90 else byte


@inline_kernel
def _name_end(data: Bytes, at: int) -> int:
    while at < len(data) and not _is_space(data[at]) and data[at] != 47 and data[at] != 62:
        at += 1
    return at


@inline_kernel
def _hash_of(data: Bytes, start: int, end: int) -> np.uint64:
    value = np.uint64(_OFFSET)
    for at in range(start, end):
        value = (value ^ np.uint64(_lower(data[at]))) * np.uint64(_PRIME)
    return value


@inline_kernel
def _class_of(keys: Words, codes: Codes, value: np.uint64) -> int:
    at = value & np.uint64(_TABLE - 1)
    while keys[at] != 0:
        if keys[at] == value:
            return int(codes[at])
        at = (at + np.uint64(1)) & np.uint64(_TABLE - 1)
    return 0


@inline_kernel
def _tag_end(data: Bytes, at: int) -> tuple[int, int, bool]:
    """After the name of a tag: position after its ``>``, number of attributes, closed by ``/>``."""
    attributes, closed, size = 0, False, len(data)
    while at < size:
        byte = data[at]
        if byte == 62:
            return at + 1, attributes, closed
        if _is_space(byte) or byte == 47:
            closed = byte == 47
            at += 1
            continue
        attributes += 1
        closed = False
        at += 1  # the first byte of a name may be "="
        while at < size and not _is_space(data[at]) and data[at] != 47 and data[at] != 62 and data[at] != 61:
            at += 1
        after = at
        while after < size and _is_space(data[after]):
            after += 1
        if after >= size or data[after] != 61:
            continue
        at = after + 1
        while at < size and _is_space(data[at]):
            at += 1
        if at < size and (data[at] == 34 or data[at] == 39):
            quote = data[at]
            at += 1
            while at < size and data[at] != quote:
                at += 1
            at += 1
        else:
            while at < size and not _is_space(data[at]) and data[at] != 62:
                at += 1
    return size, attributes, closed


@inline_kernel
def _comment_end(data: Bytes, at: int) -> int:
    """``at`` is after ``<!--``. Ends at ``-->`` and ``--!>``, and at once for ``<!-->`` and ``<!--->``."""
    size = len(data)
    if at < size and data[at] == 62:
        return at + 1
    if at + 1 < size and data[at] == 45 and data[at + 1] == 62:
        return at + 2
    while at + 2 < size:
        if data[at] == 45 and data[at + 1] == 45:
            if data[at + 2] == 62:
                return at + 3
            if data[at + 2] == 33 and at + 3 < size and data[at + 3] == 62:
                return at + 4
        at += 1
    return size


@inline_kernel
def _after(data: Bytes, at: int, byte: int) -> int:
    while at < len(data) and data[at] != byte:
        at += 1
    return at + 1


@inline_kernel
def _raw_end(data: Bytes, at: int, start: int, end: int) -> int:
    """Where the end tag of the raw text element named by ``data[start:end]`` begins."""
    size, length = len(data), end - start
    while at + 2 + length <= size:
        if data[at] == 60 and data[at + 1] == 47:
            same = True
            for i in range(length):
                if _lower(data[at + 2 + i]) != _lower(data[start + i]):
                    same = False
                    break
            if same:
                after = at + 2 + length
                if after == size or _is_space(data[after]) or data[after] == 47 or data[after] == 62:
                    return at
        at += 1
    return size


@kernel
def _scan(
    data: Bytes,
    keys: Words,
    codes: Codes,
    max_depth: int,
    max_nodes: int,
    max_depth_sum: int,
    max_pairs: int,
    sums: Sums,
) -> int:
    """0, or which of the limits is passed, in the order of the arguments from 1. ``sums`` gets the depths'
    sum.
    """
    size = len(data)
    names = np.zeros(max_depth + 1, np.uint64)  # open elements
    kinds = np.zeros(max_depth + 1, np.uint8)
    open_in = np.zeros(_BUCKETS, np.int32)  # open elements by hash of the name: most end tags need no search
    active = np.zeros(max_depth + 1, np.uint64)  # formatting elements that are opened again where needed
    active_tags = np.zeros(max_depth + 1, np.uint64)
    depth, num_active, nodes, depth_sum, pairs, foreign, no_raw = 0, 0, 0, 0, 0, 0, 0
    at = 0
    while at < size:
        if data[at] != 60:
            at += 1
            continue
        if at + 1 >= size:
            break
        byte = data[at + 1]
        if byte == 33:
            comment = at + 3 < size and data[at + 2] == 45 and data[at + 3] == 45
            at = _comment_end(data, at + 4) if comment else _after(data, at + 2, 62)
            continue
        if byte == 63:
            at = _after(data, at + 2, 62)
            continue
        closing = byte == 47
        start = at + 2 if closing else at + 1
        if start >= size:
            break
        if not _is_letter(data[start]):
            # "</" before anything else is a bogus comment; "<" before anything else is text.
            at = _after(data, start, 62) if closing else at + 1
            continue
        end = _name_end(data, start)
        name = _hash_of(data, start, end)
        code = _class_of(keys, codes, name)
        at, attributes, self_closed = _tag_end(data, end)
        pairs += attributes * attributes
        # "</p>" without "<p>" makes an element, and so does "</br>".
        nodes += not closing or code in (_ITEM, _VOID)
        left_out = code in (_AUTO, _ITEM, _CELL)
        if left_out:
            nodes += num_active
        if pairs > max_pairs:
            return 4
        if nodes > max_nodes:
            return 2
        bucket = int(name & np.uint64(_BUCKETS - 1))
        is_format = code in (_FORMAT, _ANCHOR)
        if (closing and is_format) or (not closing and code == _ANCHOR):
            depth_sum += 8 * depth  # the adoption agency goes through the open elements, at most 8 times
            for i in range(num_active - 1, -1, -1):
                if active[i] == name:
                    for j in range(i, num_active - 1):
                        active[j], active_tags[j] = active[j + 1], active_tags[j + 1]
                    num_active -= 1
                    break
            if open_in[bucket] > 0:
                for i in range(depth - 1, -1, -1):
                    if names[i] == name:
                        for j in range(i, depth - 1):
                            names[j], kinds[j] = names[j + 1], kinds[j + 1]
                        depth -= 1
                        open_in[bucket] -= 1
                        break
                    if kinds[i] == _BARRIER:
                        break
        elif closing and open_in[bucket] > 0:
            for i in range(depth - 1, -1, -1):
                if names[i] == name:
                    while depth > i:
                        depth -= 1
                        open_in[int(names[depth] & np.uint64(_BUCKETS - 1))] -= 1
                        if kinds[depth] == _FOREIGN:
                            foreign -= 1
                        elif kinds[depth] == _NO_RAW:
                            no_raw -= 1
                    break
                if kinds[i] == _BARRIER and code != _BARRIER:
                    break
        if closing:
            continue
        if code == _RAW and foreign == 0 and no_raw == 0:
            at = _raw_end(data, at, start, end)
            continue
        if code in (_ITEM, _CELL) and foreign == 0:
            # The paragraph, item or cell before it ends, and with it the formatting opened in there.
            run = depth
            while run > 0 and (kinds[run - 1] == _FORMAT or kinds[run - 1] == _ANCHOR):
                run -= 1
            if code == _ITEM or (run > 0 and names[run - 1] == np.uint64(_TABLE_NAME)):
                while depth > run:
                    depth -= 1
                    open_in[int(names[depth] & np.uint64(_BUCKETS - 1))] -= 1
        depth_sum += depth + num_active
        sums[0] = depth_sum
        if depth_sum > max_depth_sum:
            return 3
        if (foreign == 0 and (code == _VOID or left_out)) or (
            self_closed and (foreign > 0 or code == _FOREIGN)
        ):
            continue
        if depth >= max_depth:
            return 1
        names[depth], kinds[depth] = name, code
        open_in[bucket] += 1
        depth += 1
        if code == _FOREIGN:
            foreign += 1
        elif code == _NO_RAW:
            no_raw += 1
        if is_format:
            tag = _hash_of(data, start, at)
            same = 0
            for i in range(num_active):
                same += active_tags[i] == tag
            if same < 3:  # the standard keeps three of a kind
                if num_active >= max_depth:
                    return 1
                active[num_active], active_tags[num_active] = name, tag
                num_active += 1
    return 0
