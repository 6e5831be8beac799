"""A real browser, without a screen, that speaks to nobody but the page it is given."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
MISSING = "no Chromium here (apt-get install chromium)"

# A profile of its own each time: the last browser may still be closing the one before.
_ALONE = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def browse(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the browser writes when it is started on ``url``; its profile goes to ``folder``."""
    assert BROWSER is not None
    profile = tempfile.mkdtemp(prefix="profile-", dir=folder)
    return subprocess.run(
        [BROWSER, *_ALONE, f"--user-data-dir={profile}", *arguments, url],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
