"""Keys and tokens by their published forms, and secrets assigned to names that say so.

Forms are those of gitleaks 8 (https://github.com/gitleaks/gitleaks, config/gitleaks.toml) and of the issuers'
own documentation; they are matched whole, at a word's beginning and to its end. ``password`` is the generic
kind, of lower confidence: a value of high entropy after ``password =``, ``"secret": `` and the like.
Each function returns ``(kind, first, end)``; the kind is -1 where there is nothing.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, assignment, call-arg"
# ruff: noqa: SIM102, SIM110 - numba has no any(); one condition a line reads best here
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import math

import numpy as np

from headwater.kernels.jit import inline_kernel

KINDS_OF_SECRETS = (
    "aws_key",
    "github_token",
    "gitlab_token",
    "slack_token",
    "google_key",
    "stripe_key",
    "jwt",
    "private_key",
    "password",
)
AWS, GITHUB, GITLAB, SLACK, GOOGLE, STRIPE, JWT, PRIVATE, ASSIGNED = range(5, 14)

MIN_ENTROPY = 3.5  # bits a character; gitleaks' generic-api-key
MIN_ASSIGNED, MAX_ASSIGNED = 10, 150  # characters, the same rule
MAX_PEM_BYTES = 16 * 1024  # an RSA key of 16,384 bits takes 12.4 kB
MIN_PEM_BODY = 40  # characters of base64; the shortest key (Ed25519 in PKCS #8) has 64

# c log2 c, rounded so that every machine has the same number.
SCALED_LOG2 = np.array([0.0] + [round(c * math.log2(c), 9) for c in range(1, MAX_ASSIGNED + 1)])
SCALED_LOG2.flags.writeable = False


@inline_kernel
def _alnum(byte):
    return 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122


@inline_kernel
def _word(byte):
    return _alnum(byte) or byte == 95


@inline_kernel
def _begins(data, at, start):
    return at == start or not _word(data[at - 1])


@inline_kernel
def _run(data, at, end, dash, limit):
    """End of the word characters (and hyphens, with ``dash``) from ``at``, at most ``limit`` of them."""
    place = at
    while place < end and place - at < limit and (_word(data[place]) or (dash and data[place] == 45)):
        place += 1
    return place


@inline_kernel
def aws_key(data, at, start, end):
    """``AKIA``, ``ASIA``, ``ABIA``, ``ACCA`` and 16 of A-Z, 2-7; not the documentation's ``…EXAMPLE``."""
    if at + 20 > end or not _begins(data, at, start) or data[at + 3] != 65:
        return -1, 0, 0
    b, c = data[at + 1], data[at + 2]
    known = (b == 75 and c == 73) or (b == 83 and c == 73) or (b == 66 and c == 73) or (b == 67 and c == 67)
    if not known:
        return -1, 0, 0
    for i in range(at + 4, at + 20):
        if not (65 <= data[i] <= 90 or 50 <= data[i] <= 55):
            return -1, 0, 0
    if at + 20 < end and _word(data[at + 20]):
        return -1, 0, 0
    if data[at + 19] == 69 and data[at + 18] == 76 and data[at + 17] == 80 and data[at + 16] == 77:
        return -1, 0, 0  # MPLE
    return AWS, at, at + 20


@inline_kernel
def google_key(data, at, start, end):
    """``AIza`` and 35 word characters or hyphens."""
    if at + 39 > end or data[at + 1] != 73 or data[at + 2] != 122 or data[at + 3] != 97:
        return -1, 0, 0
    if not _begins(data, at, start) or _run(data, at + 4, end, True, 36) != at + 39:
        return -1, 0, 0
    return GOOGLE, at, at + 39


@inline_kernel
def token_before_underscore(data, at, start, end):
    """``gh[pousr]_`` and 36 characters, ``github_pat_`` and 82, ``[sr]k_(live|test)_`` and more."""
    if at - 3 >= start and data[at - 3] == 103 and data[at - 2] == 104:
        kind = data[at - 1]
        if kind in (112, 111, 117, 115, 114) and _begins(data, at - 3, start):
            after = _run(data, at + 1, end, False, 256)
            # 36 at first; GitHub reserves the right to make them longer
            if 36 <= after - at - 1 <= 255 and _no_underscore(data, at + 1, after):
                return GITHUB, at - 3, after
        return -1, 0, 0
    if at - 2 >= start and data[at - 1] == 107 and (data[at - 2] == 115 or data[at - 2] == 114):
        live = (
            at + 6 < end
            and data[at + 5] == 95
            and (
                (data[at + 1] == 108 and data[at + 2] == 105 and data[at + 3] == 118 and data[at + 4] == 101)
                or (
                    data[at + 1] == 116
                    and data[at + 2] == 101
                    and data[at + 3] == 115
                    and data[at + 4] == 116
                )
            )
        )
        if live and _begins(data, at - 2, start):
            after = _run(data, at + 6, end, False, 100)
            if 10 <= after - at - 6 <= 99 and _no_underscore(data, at + 6, after):
                return STRIPE, at - 2, after
        return -1, 0, 0
    if at - 6 >= start and data[at - 1] == 98 and data[at - 6] == 103 and data[at - 3] == 104:  # github_
        if (
            at + 5 < end
            and data[at - 5] == 105
            and data[at - 4] == 116
            and data[at - 2] == 117
            and data[at + 1] == 112
            and data[at + 2] == 97
            and data[at + 3] == 116
            and data[at + 4] == 95
            and _begins(data, at - 6, start)
        ):
            after = _run(data, at + 5, end, False, 256)
            if 82 <= after - at - 5 <= 255:
                return GITHUB, at - 6, after
    return -1, 0, 0


@inline_kernel
def _no_underscore(data, first, after):
    for i in range(first, after):
        if data[i] == 95:
            return False
    return True


@inline_kernel
def _has_digit(data, first, after):
    for i in range(first, after):
        if 48 <= data[i] <= 57:
            return True
    return False


@inline_kernel
def token_before_dash(data, at, start, end):
    """``glpat-`` and 20 to 64 characters; ``xox[abeoprs]-`` and at least 20 with a digit."""
    if at - 5 >= start and data[at - 1] == 116 and data[at - 2] == 97 and data[at - 3] == 112:
        if data[at - 4] == 108 and data[at - 5] == 103 and _begins(data, at - 5, start):
            after = _run(data, at + 1, end, True, 80)
            if 20 <= after - at - 1 <= 64:
                return GITLAB, at - 5, after
        return -1, 0, 0
    if at - 4 >= start and data[at - 4] == 120 and data[at - 3] == 111 and data[at - 2] == 120:
        if data[at - 1] in (97, 98, 101, 111, 112, 114, 115) and _begins(data, at - 4, start):
            after = _run(data, at + 1, end, True, 256)
            if after - at - 1 >= 20 and _has_digit(data, at + 1, after):
                return SLACK, at - 4, after
    return -1, 0, 0


@inline_kernel
def web_token(data, at, start, end):
    """A JSON web token around the ``J`` of ``eyJ``: three parts of base64url, two of them JSON objects."""
    first = at - 2
    if first < start or data[first] != 101 or data[first + 1] != 121 or not _begins(data, first, start):
        return -1, 0, 0
    dot = _run(data, first, end, True, 4096)
    if dot - first < 10 or dot + 3 >= end or data[dot] != 46:
        return -1, 0, 0
    if data[dot + 1] != 101 or data[dot + 2] != 121 or data[dot + 3] != 74:
        return -1, 0, 0
    second = _run(data, dot + 1, end, True, 16384)
    if second - dot < 10 or second >= end or data[second] != 46:
        return -1, 0, 0
    after = _run(data, second + 1, end, True, 4096)
    if after - second < 10:
        return -1, 0, 0
    return JWT, first, after


@inline_kernel
def _spells(data, at, end, text):
    if at + len(text) > end:
        return False
    for i in range(len(text)):
        if data[at + i] != text[i]:
            return False
    return True


_BEGIN = b"-----BEGIN "
_PRIVATE = b"PRIVATE KEY"
_END = b"-----END "
_EXAMPLE = b"EXAMPLE"


@inline_kernel
def private_key(data, at, start, end):
    """A PEM block whose label ends in PRIVATE KEY, with at least 40 characters of base64 in it."""
    if at + 40 > end or data[at + 1] != 45 or data[at + 5] != 66 or (at > start and data[at - 1] == 45):
        return -1, 0, 0
    if not _spells(data, at, end, _BEGIN):
        return -1, 0, 0
    place = at + 11
    named = False
    while place < end and place - at < 64 and (65 <= data[place] <= 90 or data[place] == 32):
        if data[place] == 80 and _spells(data, place, end, _PRIVATE):
            named = True
        place += 1
    if not named or place + 5 > end or data[place] != 45:
        return -1, 0, 0
    body = 0
    place += 5
    stop = min(end, at + MAX_PEM_BYTES)
    while place < stop:
        byte = data[place]
        if byte == 45 and _spells(data, place, end, _END):
            after = place + 9
            while after < end and after - place < 64 and (65 <= data[after] <= 90 or data[after] == 32):
                after += 1
            while after < end and after - place < 72 and data[after] == 45:
                after += 1
            if body >= MIN_PEM_BODY:
                return PRIVATE, at, after
            return -1, 0, 0
        if _alnum(byte) or byte == 43 or byte == 47 or byte == 61:
            body += 1
        place += 1
    return -1, 0, 0


@inline_kernel
def _named_secret(data, at, start):
    """Whether the name before ``at`` ends in password, passwd, pwd, secret, token or (api, access) key."""
    last = data[at - 1] | 32
    if last != 100 and last != 116 and last != 110 and last != 121:
        return False
    if last == 100:  # password, passwd, pwd
        if at - 3 >= start and (data[at - 2] | 32) == 119 and (data[at - 3] | 32) == 112:
            return True
        if at - 6 >= start and (data[at - 2] | 32) == 119 and (data[at - 3] | 32) == 115:
            return (data[at - 6] | 32) == 112 and (data[at - 5] | 32) == 97
        return (
            at - 8 >= start
            and (data[at - 2] | 32) == 114
            and (data[at - 3] | 32) == 111
            and (data[at - 4] | 32) == 119
            and (data[at - 5] | 32) == 115
            and (data[at - 8] | 32) == 112
        )
    if last == 116:  # secret
        return (
            at - 6 >= start
            and (data[at - 2] | 32) == 101
            and (data[at - 3] | 32) == 114
            and (data[at - 4] | 32) == 99
            and (data[at - 6] | 32) == 115
        )
    if last == 110:  # token
        return (
            at - 5 >= start
            and (data[at - 2] | 32) == 101
            and (data[at - 3] | 32) == 107
            and (data[at - 4] | 32) == 111
            and (data[at - 5] | 32) == 116
        )
    # …key: after api, access, secret, auth, private or account, with or without a mark between
    if not (at - 6 >= start and (data[at - 2] | 32) == 101 and (data[at - 3] | 32) == 107):
        return False
    i = at - 4
    if data[i] == 95 or data[i] == 45:
        i -= 1
    if i - 2 < start:
        return False
    c, b, a = data[i] | 32, data[i - 1] | 32, data[i - 2] | 32
    return (
        (c == 105 and b == 112 and a == 97)  # api
        or (c == 115 and b == 115 and a == 101)  # access
        or (c == 116 and b == 101 and a == 114)  # secret
        or (c == 104 and b == 116 and a == 117)  # auth
        or (c == 101 and b == 116 and a == 97)  # private
        or (c == 116 and b == 110 and a == 117)  # account
    )


@inline_kernel
def assigned_secret(data, at, start, end, scaled_log2):
    """The value at ``password = "…"`` (``:``, ``=>``; ``pwd``, ``secret``, ``token``, ``api_key``, …).

    10 to 150 characters of ``[A-Za-z0-9._=+/~!@#%^&*-]`` with a letter and a digit and 3.5 bits of entropy a
    character. In quotes; without them (``KEY=…`` in a settings file) from 16 characters to the line's end.
    """
    name = at
    while name > start and at - name < 3 and (data[name - 1] == 32 or data[name - 1] in (34, 39)):
        name -= 1
    if name == start or not _named_secret(data, name, start):
        return -1, 0, 0
    place = at + 1
    if place < end and data[place] == 61:  # a comparison, or :=
        if data[at] == 61:
            return -1, 0, 0
        place += 1
    if place < end and data[place] == 62:  # =>
        place += 1
    blanks = 0
    while place < end and data[place] == 32 and blanks < 3:
        place += 1
        blanks += 1
    if place >= end:
        return -1, 0, 0
    quote = data[place]
    quoted = quote == 34 or quote == 39
    if quoted:
        place += 1
    elif blanks > 0 and data[at] == 61:
        return -1, 0, 0
    first = place
    letter = digit = False
    while place < end and place - first <= MAX_ASSIGNED:
        byte = data[place]
        if 48 <= byte <= 57:
            digit = True
        elif 65 <= byte <= 90 or 97 <= byte <= 122:
            letter = True
        elif not (
            byte in (33, 35, 37, 38, 42, 43, 45, 46, 47, 61, 64, 94, 95, 126)
            and (quoted or byte in (43, 45, 46, 47, 61, 95))
        ):
            break
        place += 1
    size = place - first
    if size < MIN_ASSIGNED or size > MAX_ASSIGNED or not letter or not digit:
        return -1, 0, 0
    if quoted:
        if place >= end or data[place] != quote:
            return -1, 0, 0
    elif size < 16 or (place < end and data[place] != 10 and data[place] != 13):
        return -1, 0, 0
    for i in range(first, place - 2):  # …EXAMPLEKEY of documentations, and what was cut off
        if data[i] == 46 and data[i + 1] == 46 and data[i + 2] == 46:
            return -1, 0, 0
        if data[i] == 69 and data[i + 1] == 88 and _spells(data, i, place, _EXAMPLE):
            return -1, 0, 0
    counts = np.zeros(128, dtype=np.int64)
    for i in range(first, place):
        counts[data[i]] += 1
    held = 0.0
    for i in range(128):
        if counts[i] > 0:
            held += scaled_log2[counts[i]]
    # entropy = log2(size) - sum(c log2 c) / size
    if scaled_log2[size] - held < MIN_ENTROPY * size:
        return -1, 0, 0
    return ASSIGNED, first, place
