"""``headwater release``: a training run in one folder, and the check of such a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.errors import UsageError
from headwater.report.words import count, size

if TYPE_CHECKING:
    from headwater.release import ReleaseReport, VerifyReport


@click.command("release", short_help="Pack a training run to publish, or check such a folder.")
@click.argument("run", required=False)
@click.option("--out", type=click.Path(), metavar="DIR", help="Folder to make.")
@click.option("--runs", default="runs", show_default=True, metavar="DIR", help="Folder of checkpoints.")
@click.option("--checkpoints", type=click.Choice(["all", "last", "none"]), default="last", show_default=True,
              help="Which to copy; all are listed with the digests of their files.")  # fmt: skip
@click.option("--hf", type=click.Path(), metavar="DIR", help="Hugging Face folder of the model, to include.")
@click.option("--with-text", is_flag=True, help="Also the documents' text, the tokens, the samples.")
@click.option("--verify", "folder", type=click.Path(), metavar="DIR", help="Check a release instead.")
@json_option
@session_options
@pass_session
def command(
    session: Session,
    run: str | None,
    out: str | None,
    runs: str,
    checkpoints: str,
    hf: str | None,
    with_text: bool,
    folder: str | None,
) -> int:
    """Pack RUN: its training order, log, checkpoints, tokenizer, recipe and cards, with a manifest.

    Document ids only, unless --with-text. The folder appears whole or not at all.

    \b
    headwater release RUN --out release
    headwater release --verify release                the files, and the order's own digest
    headwater release --verify release --lake lake    the order against the lake's table as well
    """
    if folder is not None:
        if run or out:
            raise UsageError("--verify DIR stands alone", hint="leave out RUN and --out")
        return _verify(session, folder)
    if not run or not out:
        raise UsageError("give RUN and --out DIR, or --verify DIR")
    from headwater.cli.progress import step_progress
    from headwater.release import release

    with step_progress(session, "release") as step:
        made = release(
            session.lake,
            run,
            out,
            runs=runs,
            checkpoints=checkpoints,
            hf=hf,
            with_text=with_text,
            progress=step,
        )
    session.emit_json(made) if session.as_json else _show(session, made)
    return 0


def _verify(session: Session, folder: str) -> int:
    from headwater.cli.progress import step_progress
    from headwater.release import verify

    lake = session.lake if session.lake_uri or session.has_project else None
    with step_progress(session, f"verify {folder}"):
        found = verify(folder, lake)
    session.emit_json(found) if session.as_json else _show_verified(session, found)
    return 0 if found.ok else 1


def _show(session: Session, made: ReleaseReport) -> None:
    def line(text: str, style: str | None = None) -> None:
        session.out.print(plain(text), style=style, soft_wrap=True)

    line(f"{made.folder}: {made.run_id} up to step {count(made.step)}", "bold")
    for order in made.orders:
        line(f"  order {order['table']}@{order['version']}: {count(order['num_sequences'])} sequences, "
             f"digest {order['order_digest']}")  # fmt: skip
    line("  log: " + ", ".join(f"{name} {count(rows)}" for name, rows in made.log.items()))
    line(f"  {count(made.checkpoints)} checkpoints, {count(made.files)} files, {size(made.bytes)}")
    for note in made.left_out:
        line(f"  left out: {note}", "dim")
    line(f"  SHA-256 of MANIFEST.json: {made.manifest_sha256}")


def _show_verified(session: Session, found: VerifyReport) -> None:
    def line(text: str, style: str | None = None) -> None:
        session.out.print(plain(text), style=style, soft_wrap=True)

    checked = f"{count(found.files)} files, {size(found.bytes)}, {count(found.sequences)} sequences"
    if found.ok:
        line(f"{found.folder} is whole: {checked}", "bold green")
    else:
        line(f"{found.folder} is not what its manifest says: {checked}", "bold red")
    for problem in found.problems:
        line(f"  {problem}", "red")
    for name in found.compared:
        line(f"  {name}: the order's digest was held against the table's")
    for reason in found.not_compared:
        line(f"  not held against its table: {reason}", "yellow")
    line(f"  SHA-256 of MANIFEST.json: {found.manifest_sha256}", "dim")
