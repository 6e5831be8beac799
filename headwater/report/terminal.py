"""The funnel on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwater.report.words import count, share, size

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from headwater.report.losses import Funnel

BAR_CELLS = 14


def funnel_table(f: Funnel) -> Table:
    """A row for what came in, for every rule, and for what was kept."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"{f.table}@{f.version} from {f.candidates}",
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    table.add_column("", no_wrap=True)
    for name in ("documents", "text", "only it", "unknown"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    total = f.documents_in
    if f.quarantined:
        unread = sum(f.quarantined.values())
        table.add_row(Text("not readable", "dim"), count(unread), "", "", "", Text("quarantined", "dim"))
    table.add_row("came in", count(total), size(f.bytes_in), "", "", _bar(total, total, "dim", "left"))
    for rule in f.rules:
        table.add_row(
            Text(f"  {rule.rule}"),
            f"−{count(rule.failed)}" if rule.failed else "0",
            size(rule.failed_bytes) if f.bytes_in is not None else "",
            count(rule.only),
            count(rule.unknown) if rule.unknown else "",
            _bar(rule.failed, total, "red", "right"),
        )
    if f.unknown:
        words = (Text("  unknown", "yellow"), f"−{count(f.unknown)}", size(f.unknown_bytes))
        table.add_row(*words, "", "", _bar(f.unknown, total, "yellow", "right"))
    table.add_row(
        Text("kept", "bold green"),
        Text(count(f.kept), "bold"),
        Text(size(f.kept_bytes), "bold"),
        "",
        Text(share(f.kept, total), "green"),
        _bar(f.kept, total, "green", "left"),
    )
    return table


def _bar(value: int, total: int, style: str, side: str) -> Text:
    """Whole cells; something that is not nothing has at least one."""
    from rich.text import Text

    cells = max(round(BAR_CELLS * value / total), 1) if value and total else 0
    drawn, empty = "█" * cells, " " * (BAR_CELLS - cells)
    return Text(drawn + empty if side == "left" else empty + drawn, style)
