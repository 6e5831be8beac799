"""Whether a chunk of text is a web or mail address, as spaCy's tokenizer asks (it leaves those whole)."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np

from headwater.kernels import token_classes as t
from headwater.kernels.jit import inline_kernel

_LETTER, _LOWER, _LETTER_OR_DIGIT = (np.uint16(bit) for bit in (t.LETTER, t.LOWER, t.ALNUM))


@inline_kernel
def is_address(cp, low, high, flags):
    """A web or mail address: ``[scheme://][user@]host.tld[:port][/path]``, the whole chunk."""
    if _is_host(cp, low, high, flags):
        return True
    host = low
    while host < high:
        code = cp[host]
        if code == 64 and host > low and _is_host(cp, host + 1, high, flags):
            return True
        if (
            code == 58
            and host - low >= 2
            and host + 2 < high
            and cp[host + 1] == 47
            and cp[host + 2] == 47
            and _is_scheme(cp, low, host, flags)
            and _is_host(cp, host + 3, high, flags)
        ):
            return True
        host += 1
    return False


@inline_kernel
def _is_scheme(cp, low, high, flags):
    for i in range(low, high):
        code = cp[i]
        if not (
            (flags[code] & _LETTER_OR_DIGIT) != 0 or code == 95 or code == 43 or code == 45 or code == 46
        ):
            return False
    return True


@inline_kernel
def _is_host(cp, low, high, flags):
    at = low
    label = low
    stops = numbers = 0
    letters = digits = True
    while at < high:
        code = cp[at]
        if code == 46:
            if at == label or cp[at - 1] == 45 or cp[at - 1] == 95 or at - label > 64:
                return False
            numbers += digits and at - label <= 3
            stops += 1
            label = at + 1
            letters = digits = True
        elif 48 <= code <= 57:
            letters = False
        elif (65 <= code <= 90) or (97 <= code <= 122) or (0xA1 <= code <= 0xFFFF):
            digits = False
            letters = letters and (flags[code] & _LETTER) != 0 and (flags[code] & _LOWER) != 0
        elif (code == 45 or code == 95) and at > label:
            letters = digits = False
        else:
            break
        at += 1
    length = at - label
    named = stops > 0 and letters and 2 <= length <= 63
    numbered = stops == 3 and numbers == 3 and digits and 1 <= length <= 3
    if not named and not numbered:
        return False
    if at < high and cp[at] == 58:
        at += 1
        port = at
        while at < high and 48 <= cp[at] <= 57:
            at += 1
        if not 2 <= at - port <= 5:
            return False
    return at == high or cp[at] == 47 or cp[at] == 63 or cp[at] == 35
