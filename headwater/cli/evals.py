"""``headwater evals``: evaluation sets that a corpus must not contain."""

from __future__ import annotations

import click

from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.errors import UsageError


@click.command("evals", short_help="Add an evaluation set, or list those there are.")
@click.argument("name", required=False)
@click.argument("path", required=False, type=click.Path())
@click.option("--id", "item_id", metavar="KEY", help="The key of an item's id.")
@click.option("--field", "fields", multiple=True, metavar="NAME=KEY", help="A text of an item; repeatable.")
@json_option
@session_options
@pass_session
def command(
    session: Session, name: str | None, path: str | None, item_id: str | None, fields: tuple[str, ...]
) -> int:
    """Add the evaluation set in PATH (JSON Lines or Parquet) to raw.eval_items, or list the sets.

    \b
    headwater evals human_eval HumanEval.jsonl.gz --id task_id \\
        --field prompt=prompt --field solution=canonical_solution
    headwater build --vars '{decontaminate: true}'

    Adding a set again replaces it; a build then scans the corpus for what is new only.
    """
    from headwater.decontaminate import add_eval_set, eval_sets, read_eval_set

    if name is not None:
        if path is None or item_id is None or not fields:
            raise UsageError(
                "a set needs a file, the key of its ids, and at least one field",
                hint=f"headwater evals {plain(name)} FILE --id task_id --field prompt=prompt",
            )
        named = {ours: theirs or ours for ours, _, theirs in (each.partition("=") for each in fields)}
        add_eval_set(session.lake, read_eval_set(name, path, fields=named, item_id=item_id))
    found = eval_sets(session.lake)
    if session.as_json:
        session.emit_json({"eval_sets": found})
        return 0
    for row in found:
        kinds = ", ".join(row["fields"])
        session.out.print(plain(f"{row['eval_set']}: {row['num_items']:,} items ({kinds})"), soft_wrap=True)
    if not found:
        session.out.print("no evaluation set in this lake")
    return 0
