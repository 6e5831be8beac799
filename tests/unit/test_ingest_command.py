"""``headwater ingest``: kinds told from names, given as a word or as an option, and what is refused."""

import json
import subprocess
import zipfile

import pytest

from headwater.cli.ingest import KINDS as SHOWN
from headwater.ingest import KINDS, guess_kind


@pytest.fixture
def run(tmp_path):
    def call(*arguments):
        from headwater.cli import main

        return main(["ingest", "--lake", str(tmp_path / "lake"), "--json", *map(str, arguments)])

    return call


def reports(capsys):
    return json.loads(capsys.readouterr().out)


def test_the_command_names_every_kind():
    assert SHOWN == KINDS


def test_kinds_are_told_from_names(tmp_path):
    names = {
        "a.warc": "warc", "a.WARC.GZ": "warc", "a.warc.zst": "warc", "a.warc.wet.gz": "warc", "a.wet.gz": "warc",
        "a.zip": "archive", "a-1.whl": "archive", "a.tar": "archive", "a.tgz": "archive", "a.tar.zst": "archive",
        "a.jsonl": "jsonl", "a.jsonl.zst": "jsonl", "a.json.gz": "jsonl", "a.parquet": "parquet", "a.arrow": "arrow",
        "a.feather": "arrow", "a.json": None, "a.txt": None, "a.gz": None, "a.html": None, "project.git": None, "": None,
    }  # fmt: skip
    assert {name: guess_kind(name) for name in names} == names
    (tmp_path / "folder.zip").mkdir()
    assert guess_kind(str(tmp_path / "folder.zip")) is None
    (tmp_path / "folder.zip" / "state.json").write_text("{}")
    assert guess_kind(str(tmp_path / "folder.zip")) == "huggingface"


def test_a_kind_as_a_word_as_an_option_or_left_out(run, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "text")
        archive.writestr("b.log", "log")
    assert run(tmp_path / "a.zip") == 0
    (first,) = reports(capsys)
    assert first["kind"] == "archive" and first["documents_added"] == 1
    for arguments in (("archive", tmp_path / "a.zip"), (tmp_path / "a.zip", "--kind", "archive")):
        assert run(*arguments) == 0
        assert reports(capsys)[0]["documents_unchanged"] == 1
    assert run(tmp_path / "a.zip", "--glob", "*.log", "--glob", "*.txt") == 0
    assert reports(capsys)[0]["documents_added"] == 1


def test_a_commit_means_git(run, tmp_path, capsys):
    git = ["git", "-C", str(tmp_path / "p"), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.txt").write_text("text")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *arguments], check=True)
    assert run(tmp_path / "p", "--at", "HEAD") == 0
    (report,) = reports(capsys)
    assert report["kind"] == "git" and report["documents_added"] == 1


def test_wrong_use_is_exit_code_2(run, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.txt").write_text("a")
    for arguments, said in (
        ((tmp_path / "folder",), "cannot be told from its name"),
        ((tmp_path / "a.txt",), "--kind"),
        ((), "needs a path"),
        (("warc",), "ingest warc needs a path"),
        (("python", "x"), "takes no path"),
        ((tmp_path / "no.zip",), "there is no"),
        ((tmp_path / "folder", "--kind", "folder", "--html", "full", "--map", "text=a"), "no columns to map"),
    ):
        assert run(*arguments) == 2, arguments
        shown = capsys.readouterr()
        assert said in shown.err + shown.out, shown
