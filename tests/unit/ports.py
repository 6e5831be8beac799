"""A port for a server that another process will open."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """One that nobody listens on, below those that the kernel hands out by itself.

    A port that the kernel chose for us and that we gave back may be another's before the server opens it:
    Linux hands out 32,768 to 60,999, and tests in processes beside this one ask for many.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
