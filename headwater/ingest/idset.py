"""A set of 128-bit ids that remembers whether each was stored before, seen again, or is new.

Open addressing in two flat arrays, 17 bytes a slot: 22 to 45 bytes an id, no Python object. Ten million
documents take under 0.5 GB whatever their text. Ids are xxh3 digests, so their low word is the hash.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.jit import kernel

_FREE, _STORED, _AGAIN, _NEW = 0, 1, 2, 3
_FIRST_SLOTS = 1 << 12
_MAX_LOAD = 0.75
"""Linear probing stays under three probes for a hit at this load (Knuth, volume 3, 6.4)."""

Words = npt.NDArray[np.uint64]
States = npt.NDArray[np.uint8]


class IdSet:
    """Ids of the stored table first (:meth:`add_stored`), then those of the run (:meth:`add_seen`)."""

    def __init__(self) -> None:
        self._slots = np.zeros((_FIRST_SLOTS, 2), dtype=np.uint64)
        self._states = np.zeros(_FIRST_SLOTS, dtype=np.uint8)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def add_stored(self, ids: pa.Array) -> None:
        """Remember ids that the table holds already."""
        words = _words(ids)
        self._reserve(len(words))
        found = np.empty(len(words), dtype=np.uint8)
        self._used += int(_insert(self._slots, self._states, words, _STORED, found))

    def add_seen(self, ids: pa.Array) -> tuple[npt.NDArray[np.bool_], int, int]:
        """Which ids are new; how many were stored before; how many came already in this run."""
        words = _words(ids)
        self._reserve(len(words))
        found = np.empty(len(words), dtype=np.uint8)
        self._used += int(_insert(self._slots, self._states, words, _NEW, found))
        new = found == _FREE
        unchanged = int(np.count_nonzero(found == _STORED))
        return new, unchanged, len(words) - int(np.count_nonzero(new)) - unchanged

    def not_seen(self, ids: pa.Array) -> npt.NDArray[np.bool_]:
        """Which of these stored ids did not come up in this run."""
        words = _words(ids)
        found = np.empty(len(words), dtype=np.uint8)
        _look_up(self._slots, self._states, words, found)
        return np.equal(found, _STORED)

    def _reserve(self, more: int) -> None:
        needed = int((self._used + more) / _MAX_LOAD) + 1
        if needed <= len(self._slots):
            return
        size = 1 << (needed - 1).bit_length()
        slots, states = np.zeros((size, 2), dtype=np.uint64), np.zeros(size, dtype=np.uint8)
        _rehash(self._slots, self._states, slots, states)
        self._slots, self._states = slots, states


def _words(ids: pa.Array) -> Words:
    data = np.frombuffer(ids.buffers()[1], dtype=np.uint64) if len(ids) else np.empty(0, np.uint64)
    start = ids.offset * 2
    # A copy: numba would compile again for a read-only view, and a buffer may be unaligned.
    return np.array(data[start : start + 2 * len(ids)]).reshape(-1, 2)


@kernel
def _insert(slots: Words, states: States, ids: Words, state: int, found: States) -> int:
    """Put ids in; ``found`` gets each one's state before. A stored id that is seen becomes seen again."""
    mask = np.uint64(len(slots) - 1)
    added = 0
    for i in range(len(ids)):
        high, low = ids[i, 0], ids[i, 1]
        at = low & mask
        while states[at] != 0 and (slots[at, 0] != high or slots[at, 1] != low):
            at = (at + np.uint64(1)) & mask
        found[i] = states[at]
        if states[at] == 0:
            slots[at, 0] = high
            slots[at, 1] = low
            states[at] = state
            added += 1
        elif states[at] == 1 and state == 3:
            states[at] = 2
    return added


@kernel
def _look_up(slots: Words, states: States, ids: Words, found: States) -> None:
    mask = np.uint64(len(slots) - 1)
    for i in range(len(ids)):
        at = ids[i, 1] & mask
        while states[at] != 0 and (slots[at, 0] != ids[i, 0] or slots[at, 1] != ids[i, 1]):
            at = (at + np.uint64(1)) & mask
        found[i] = states[at]


@kernel
def _rehash(slots: Words, states: States, new_slots: Words, new_states: States) -> None:
    mask = np.uint64(len(new_slots) - 1)
    for i in range(len(slots)):
        if states[i] != 0:
            at = slots[i, 1] & mask
            while new_states[at] != 0:
                at = (at + np.uint64(1)) & mask
            new_slots[at, 0] = slots[i, 0]
            new_slots[at, 1] = slots[i, 1]
            new_states[at] = states[i]
