"""Numbers as people read them. One place, so that terminal, Markdown and page agree."""

from __future__ import annotations


def count(value: int | None) -> str:
    """``1,234,567``; an en dash where there is no number."""
    return "–" if value is None else f"{value:,}"


def size(value: float | None) -> str:
    """Bytes in decimal units with three significant digits: ``1.23 GB``."""
    if value is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 999.5 or unit == "TB":
            break
        value /= 1000
    if unit == "B" or abs(value) >= 99.95:
        return f"{value:,.0f} {unit}"
    return f"{value:.1f} {unit}" if abs(value) >= 9.995 else f"{value:.2f} {unit}"


def share(part: float | None, whole: float | None) -> str:
    """``12.3 %``; never a rounded ``0.0 %`` or ``100.0 %`` for something that is neither."""
    if part is None or not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.05:
        return "< 0.1 %"
    if 99.95 <= percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f} %"


def end_of(text: str, characters: int) -> str:
    """The end of a path or name that is too long, which says more than its beginning: ``…/sql/column.py``."""
    return text if len(text) <= characters else "…" + text[-(characters - 1) :]


def change(before: int | None, after: int | None) -> str:
    """``+1,234`` / ``−12`` / ``·`` for no change; a missing side counts as none."""
    delta = (after or 0) - (before or 0)
    return "·" if delta == 0 else f"{'+' if delta > 0 else '−'}{abs(delta):,}"


def seconds(value: float | None) -> str:
    """``0.42 s`` / ``12 s`` / ``3 min 20 s`` / ``2 h 5 min``."""
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.0f} s"
    minutes, rest = divmod(int(value), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60} min"
