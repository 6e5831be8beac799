"""Repositories at a commit: blobs without a checkout, and nothing of the repository's own settings."""

import json
import os
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from headwater.errors import BadInput, UsageError
from headwater.ingest import ingest
from headwater.lake import Lake

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

ENVIRONMENT = {
    "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z",
}  # fmt: skip


def git(folder, *arguments):
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=ENVIRONMENT, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    git(tmp_path, "init", "-q", "-b", "main", "project")
    (root / "src" / "a.py").write_text("print(1)\n")
    (root / "README.md").write_text("# One\n")
    (root / "picture.png").write_bytes(b"\x89PNG")
    (root / "binary.txt").write_bytes(b"\xff\x00\xfe")
    (root / "link.txt").symlink_to("/etc/passwd")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "one")
    (root / "src" / "a.py").write_text("print(2)\n")
    (root / "new.txt").write_text("new\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "two")
    (root / "uncommitted.txt").write_text("not in any commit\n")
    return root


def documents(lake):
    return {
        (row["source"], row["path"], row["text"]): row
        for row in lake.table("raw.documents").to_arrow().to_pylist()
    }


def reasons(lake):
    return {row["path"]: row["reason"] for row in lake.table("raw.quarantine").to_arrow().to_pylist()}


def test_the_files_of_a_commit(lake, repository):
    report = ingest(lake, "git", repository)
    assert {path: text for _, path, text in documents(lake)} == {
        "README.md": "# One\n", "new.txt": "new\n", "src/a.py": "print(2)\n",
    }  # fmt: skip
    assert reasons(lake) == {"binary.txt": "not_utf8", "link.txt": "symlink"}
    row = documents(lake)["project", "new.txt", "new\n"]
    facts = json.loads(row["metadata"])
    assert (
        facts["commit"] == git(repository, "rev-parse", "HEAD")
        and facts["commit_date"] == "2026-01-02T03:04:05Z"
    )
    assert facts["blob"] == git(repository, "rev-parse", "HEAD:new.txt")
    again = ingest(lake, "git", repository)
    assert not again.changed and again.documents_unchanged == report.documents_added == 3


def test_another_commit_adds_what_changed_and_sync_removes_the_rest(lake, repository):
    assert ingest(lake, "git", repository, at="HEAD~1").documents_added == 2
    report = ingest(lake, "git", repository, at="main")
    assert (report.documents_added, report.documents_unchanged) == (2, 1)
    report = ingest(lake, "git", repository, at="main", sync=True)
    assert report.documents_removed == 1
    assert ("project", "src/a.py", "print(1)\n") not in documents(lake)


def test_bare_repositories_and_work_trees_are_the_same(lake, repository, tmp_path):
    git(tmp_path, "clone", "-q", "--bare", str(repository), "project.git")
    git(repository, "worktree", "add", "-q", str(tmp_path / "tree"), "HEAD")
    ingest(lake, "git", repository)
    for place, source in (
        (tmp_path / "project.git", None),
        (repository / ".git", None),
        (tmp_path / "tree", "project"),
    ):
        report = ingest(lake, "git", place, source=source)
        assert (report.documents_added, report.documents_unchanged) == (0, 3), place


def test_submodules_and_hostile_names(lake, repository, tmp_path):
    blob = git(repository, "rev-parse", "HEAD:new.txt")
    head = git(repository, "rev-parse", "HEAD")
    names = [b"new\nline.txt", b"\xff.txt", "\u202egnp.txt".encode(), b"quote'\".txt"]
    tree = b"".join(b"100644 blob " + blob.encode() + b"\t" + name + b"\0" for name in names)
    tree += b"160000 commit " + head.encode() + b"\tmodule.txt\0"
    made = subprocess.run(
        ["git", "mktree", "-z"], cwd=repository, env=ENVIRONMENT, input=tree, capture_output=True, check=True
    )
    commit = git(repository, "commit-tree", made.stdout.decode().strip(), "-m", "names")
    report = ingest(lake, "git", repository, at=commit)
    assert report.documents_added == 4 and report.quarantined == {"submodule": 1}
    paths = {path for _, path, _ in documents(lake)}
    assert paths == {"new\nline.txt", "%FF.txt", "\u202egnp.txt", "quote'\".txt"}


def test_nothing_of_the_repository_is_run(lake, repository, tmp_path):
    """Hooks, filters, a file system monitor, a pager and a transport that would each leave a file behind."""
    mark = tmp_path / "ran"
    script = tmp_path / "run.sh"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n")
    script.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "core.sshCommand", "filter.x.smudge", "filter.x.process", "diff.x.textconv",
                "core.askPass", "gpg.program", "uploadpack.packObjectsHook"):  # fmt: skip
        git(repository, "config", key, str(script))
    (repository / ".git" / "info" / "attributes").write_text("* filter=x diff=x\n")
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        shutil.copy(script, repository / ".git" / "hooks" / hook)
    # A partial clone: a missing object would be fetched by the command of its remote.
    git(repository, "config", "remote.origin.url", f"ext::{script}")
    git(repository, "config", "remote.origin.promisor", "true")
    git(repository, "config", "remote.origin.uploadpack", str(script))
    git(repository, "config", "extensions.partialClone", "origin")
    git(repository, "config", "core.repositoryformatversion", "1")
    git(repository, "config", "protocol.ext.allow", "always")
    blob = git(repository, "rev-parse", "HEAD:new.txt")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    report = ingest(lake, "git", repository)
    assert not mark.exists()
    assert report.documents_added == 2 and reasons(lake)["new.txt"] == "unreadable"


def test_replaced_and_damaged_objects(lake, repository):
    first, second = (
        git(repository, "rev-parse", "HEAD:README.md"),
        git(repository, "rev-parse", "HEAD:new.txt"),
    )
    git(repository, "replace", first, second)
    damaged = repository / ".git" / "objects" / second[:2] / second[2:]
    damaged.chmod(0o600)
    damaged.write_bytes(zlib.compress(b"blob 4\0no")[:-3])
    report = ingest(lake, "git", repository)
    assert report.documents_added == 2 and reasons(lake)["new.txt"] == "unreadable"
    assert ("project", "README.md", "# One\n") in documents(lake)
    with pytest.raises(BadInput, match="cannot sync"):
        ingest(lake, "git", repository, sync=True)


def test_limits_globs_and_pages(lake, repository):
    pytest.importorskip("resiliparse")
    (repository / "page.html").write_text("<p>some <b>page</b></p>")
    (repository / "large.txt").write_text("x" * 5_000)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "three")
    report = ingest(
        lake, "git", repository, globs=["*.html", "large.txt"], html="full", max_document_bytes=1_000
    )
    assert report.quarantined == {"too_large": 1}
    assert [text for _, _, text in documents(lake)] == ["some page"]


@pytest.mark.parametrize("at", ["no-such-branch", "HEAD:README.md", "HEAD^{tree}", "0" * 40])
def test_commits_that_are_none(lake, repository, at):
    with pytest.raises(BadInput, match="has no commit"):
        ingest(lake, "git", repository, at=at)
    assert not lake.exists("raw.documents")


def test_wrong_use(lake, repository, tmp_path):
    for at in ("--upload-pack=x", "", "a\0b"):
        with pytest.raises(UsageError, match="as a commit"):
            ingest(lake, "git", repository, at=at)
    with pytest.raises(BadInput, match="is no git repository"):
        ingest(lake, "git", tmp_path)
    with pytest.raises(UsageError, match="has no commits"):
        ingest(lake, "folder", repository, at="HEAD")
    (Path(tmp_path) / "odd").mkdir()
    (Path(tmp_path) / "odd" / ".git").write_text("gitdir: ../nowhere\n")
    with pytest.raises(BadInput):
        ingest(lake, "git", Path(tmp_path) / "odd")
