"""The command itself: start-up, exit codes, errors, JSON, and its reference page."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from headwater.cli import VERBS, cli, main
from headwater.cli.reference import reference
from headwater.cli.session import plain
from headwater.errors import CheckFailed, LeaseHeld, UnknownName

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "headwater.cli"]


def test_help_lists_every_verb():
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert all(verb in done.stdout for verb in VERBS) and done.stderr == ""


def test_help_of_every_verb_imports_nothing_heavy():
    code = (
        "import sys\nfrom headwater.cli import main\n"
        f"for verb in {VERBS!r}: main([verb, '--help'])\n"
        "heavy = {'duckdb', 'lance', 'pyarrow', 'numpy', 'numba', 'polars', 'dbt', 'torch', 'rich',"
        " 'jinja2', 'great_expectations'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_verb_has_help_for_every_option():
    for verb in VERBS:
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None and command.help and command.short_help
        assert len(command.short_help) < 60
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name not in ("output", "sequence_length"):
                assert parameter.help, f"{verb} {parameter.opts} has no help"


def test_the_reference_page_is_up_to_date():
    stored = (ROOT / "docs" / "reference" / "cli.md").read_text("utf-8")
    assert stored == reference(), "run: python -m headwater.cli.reference > docs/reference/cli.md"


def test_unknown_verb_is_wrong_use_and_names_the_near_one(run):
    code, _, err = run("bild", on_lake=False)
    assert code == 2
    assert "'bild'" in err and "build" in err


def test_missing_argument_is_wrong_use(run):
    assert run("why")[0] == 2
    assert run("approve", "python_textbook")[0] == 2  # no --why


@pytest.mark.parametrize(
    ("error", "code"), [(CheckFailed("no"), 1), (LeaseHeld("held"), 1), (UnknownName("what"), 2)]
)
def test_errors_are_a_message_a_hint_and_their_exit_code(monkeypatch, run, error, code):
    error.hint = "do this"
    _raise(monkeypatch, error)
    assert run("why", "x") == (code, "", f"error: {error.message}\nhint: do this\n")


def test_an_unexpected_error_says_how_to_see_more(monkeypatch, run):
    _raise(monkeypatch, RuntimeError("boom"))
    code, out, err = run("why", "x")
    assert (code, out) == (1, "")
    assert "RuntimeError: boom" in err and "--debug" in err and "Traceback" not in err
    with pytest.raises(RuntimeError):
        run("why", "x", "--debug")


def test_interrupt_exits_with_130(monkeypatch, run):
    _raise(monkeypatch, KeyboardInterrupt())
    assert run("why", "x")[0] == 130


def test_options_stand_before_or_after_the_verb(lake, capsys):
    after = main(["report", "python_textbook", "--json", "--lake", lake.uri])
    first = capsys.readouterr().out
    before = main(["--lake", lake.uri, "report", "python_textbook", "--json"])
    assert (after, before) == (0, 0)
    assert first == capsys.readouterr().out


def test_outside_a_project_the_message_says_what_to_do(tmp_path):
    done = subprocess.run(
        [*COMMAND, "why", "abcdef"], cwd=tmp_path, capture_output=True, text=True, env=_env()
    )
    assert done.returncode == 2
    assert "dbt_project.yml" in done.stderr and "hint:" in done.stderr


def test_reads_write_json_and_leave_standard_error_clean(lake):
    for arguments in (
        ["why", "copies/copy_1.py"],
        ["diff", "python_textbook"],
        ["report", "python_textbook"],
        ["doctor"],
    ):
        where = ["--lake", lake.uri] if arguments[0] != "doctor" else []
        done = subprocess.run(
            [*COMMAND, *where, *arguments, "--json"], capture_output=True, text=True, env=_env(), cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
        assert done.stderr == ""


def test_a_closed_pipe_is_no_error(lake):
    command = f"{sys.executable} -m headwater.cli --lake {lake.uri} why copies/copy_1.py --json | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=_env()
    )
    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_control_characters_never_reach_the_terminal():
    assert plain("a\x1b[31mb\nc") == "a\\x1b[31mb\\x0ac"
    assert plain("a\nb", lines=True) == "a\nb"
    assert plain("größe/文件.py") == "größe/文件.py"


def test_map_and_vars_are_read_strictly(run):
    from headwater.cli.build import parse_vars
    from headwater.cli.ingest import parse_map

    assert parse_map("id=doc_id, text=content") == {"id": "doc_id", "text": "content"}
    assert parse_map(None) == {}
    assert parse_vars("{min_words: 100}") == {"min_words": 100}
    for wrong in (["ingest", "jsonl", "x", "--map", "id"], ["ingest", "jsonl", "x", "--map", "id=a,id=b"],
                  ["ingest", "jsonl"], ["ingest", "python", "x"], ["build", "--vars", "[1]"],
                  ["build", "--vars", "{"], ["trace"], ["trace", "--step", "1", "--doc", "x"],
                  ["diff", "python_textbook@1"]):  # fmt: skip
        code, out, err = run(*wrong)
        assert (code, out) == (2, ""), wrong
        assert err.startswith("error: "), wrong


def _raise(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(importlib.import_module("headwater.why"), "why", fail)


def _env() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("HEADWATER_", "DBT_"))}
