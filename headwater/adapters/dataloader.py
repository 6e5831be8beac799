"""torch's ``DataLoader`` over a stream, with the stream's position as its own state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headwater.errors import MissingExtra

try:
    from torch.utils.data import DataLoader
except ImportError as error:
    raise MissingExtra.of("torch", "train") from error

if TYPE_CHECKING:
    from headwater.streaming import SequenceStream


class StreamLoader(DataLoader[dict[str, Any]]):  # type: ignore[misc]  # torch is untyped here
    """A ``DataLoader`` that hands out the stream's batches as they are, and saves where it stands.

    For trainers that ask a loader for ``state_dict()``. It runs no worker processes: the stream reads ahead
    in threads. The state counts the batches that were handed out.

    Parameters
    ----------
    pin_memory:
        Have the ``DataLoader`` copy each batch into page-locked memory. A stream that was opened with
        ``pin_memory=True`` fills such memory directly and needs no copy.
    """

    def __init__(self, data: SequenceStream, *, pin_memory: bool = False) -> None:
        super().__init__(data, batch_size=None, num_workers=0, pin_memory=pin_memory)

    def state_dict(self) -> dict[str, Any]:
        """The stream's state: at most 1 kB, the same for any number of ranks."""
        state: dict[str, Any] = self.dataset.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` stopped. Raises ``DataMismatch`` when it was taken over other data."""
        self.dataset.load_state_dict(state)
