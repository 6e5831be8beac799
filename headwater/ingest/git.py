"""``kind="git"``: the files of a repository at one commit, read from its objects without a checkout.

Only ``git rev-parse``, ``ls-tree`` and ``cat-file`` run, with argument lists. They run no hook, filter,
pager or file system monitor; the user's and the system's configuration are not read; and whatever a
repository's own
configuration says, nothing is fetched: every transport is forbidden, so a partial clone yields a missing
object.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from headwater.errors import BadInput, UsageError
from headwater.ingest.files import matcher
from headwater.ingest.html import Mode, looks_like_html
from headwater.ingest.html import require as require_html
from headwater.ingest.text import stored_name
from headwater.ingest.whole import Entry, Filling, Task

_AHEAD = 64
"""Requests written before their answers are read: 2.6 kB, which any pipe holds."""
_TIMEOUT_SECONDS = 60
_REGULAR = ("100644", "100755", "100664")


@dataclass(frozen=True, slots=True)
class _Blob:
    mode: str
    kind: str
    oid: str
    size: int
    name: bytes


_Wanted = tuple[Entry, _Blob]


class GitReader:
    """Regular files of the tree; the path in it is the key, so that another commit adds what changed."""

    layout: str | None = None
    source_prefix: str | None = None

    def __init__(
        self,
        location: str | Path,
        *,
        at: str | None,
        source: str | None,
        globs: Sequence[str] | None,
        html: Mode | None,
        max_bytes: int,
    ) -> None:
        if html is not None:
            require_html()
        self._git = _Git(location)
        self.commit = self._git.commit("HEAD" if at is None else at)
        self._facts = self._git.facts(self.commit)
        self._blobs: list[_Blob] | None = None
        self.source = source or _default_source(Path(location))
        self.sources: frozenset[str] | None = frozenset({self.source})
        self._wanted = matcher(globs)
        self._html = html
        self._max_bytes = max_bytes

    def total_bytes(self) -> int | None:
        return sum(blob.size for blob in self._listed() if blob.kind == "blob")

    def tasks(self) -> Iterator[Task]:
        filling = Filling(counts_files=True)
        to_read: list[tuple[Entry, _Blob]] = []
        for blob in self._listed():
            entry = self._entry(blob)
            reason, detail = self._refusal(blob)
            if reason:
                filling.refuse(entry, reason, detail, blob.size)
            else:
                to_read.append((entry, blob))
        for (entry, blob), data in self._read(to_read):
            if data is None:
                filling.refuse(entry, "unreadable", f"object {blob.oid} is missing or damaged", blob.size)
            else:
                filling.add(entry, data)
            if filling.is_full:
                yield filling.task()
                filling = Filling(counts_files=True)
        yield filling.task()

    def _read(self, wanted: list[_Wanted]) -> Iterator[tuple[_Wanted, bytes | None]]:
        """Each blob's bytes, or None. git ends at a damaged object: then it is started again after it."""
        at = 0
        while at < len(wanted):
            with self._git.reading() as objects:
                while at < len(wanted):
                    group = wanted[at : at + _AHEAD]
                    if not objects.ask([blob.oid for _, blob in group]):
                        yield wanted[at], None
                        at += 1
                        break
                    for one in group:
                        data = objects.answer(one[1].oid, one[1].size)
                        yield one, data
                        at += 1
                        if objects.has_ended:
                            break
                    if objects.has_ended:
                        break

    def _listed(self) -> list[_Blob]:
        if self._blobs is None:
            self._blobs = [
                b
                for b in self._git.tree(self.commit)
                if self._wanted(b.name.decode("utf-8", "surrogateescape"))
            ]
        return self._blobs

    def _entry(self, blob: _Blob) -> Entry:
        name = stored_name(os.fsdecode(blob.name))
        facts = json.dumps({**self._facts, "blob": blob.oid})
        page = self._html if self._html and looks_like_html(name) else None
        return Entry("", name, self.source, metadata=facts, html=page)

    def _refusal(self, blob: _Blob) -> tuple[str, str]:
        if blob.mode == "120000":
            return "symlink", "not followed"
        if blob.kind == "commit":
            return "submodule", f"another repository, at {blob.oid}"
        if blob.mode not in _REGULAR:
            return "unreadable_member", f"mode {blob.mode}"
        if blob.size > self._max_bytes:
            return "too_large", f"limit {self._max_bytes} bytes"
        return "", ""


def _default_source(place: Path) -> str:
    name = stored_name(place.resolve().name)
    if name == ".git":
        name = stored_name(place.resolve().parent.name)
    return name.removesuffix(".git") or "repository"


class _Git:
    """git, on one repository, with nothing of its surroundings."""

    def __init__(self, location: str | Path) -> None:
        program = shutil.which("git")
        if program is None:
            raise UsageError(
                "git is not installed", hint="install git, or ingest an export of the repository"
            )
        self._folder = _git_folder(Path(location))
        self._command = [
            program, "--no-pager", f"--git-dir={self._folder}", "--literal-pathspecs",
            "-c", "safe.directory=*",
            "-c", "core.hooksPath=/dev/null",
            "-c", "core.fsmonitor=false",
            "-c", "core.commitGraph=false",  # a wrong graph would only slow this down; it is not needed
            "-c", "core.attributesFile=/dev/null",
            "-c", "protocol.allow=never",
        ]  # fmt: skip
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR") if name in os.environ}
        self._environment = {
            **kept,
            "LC_ALL": "C",
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "",  # none: a partial clone would fetch, by a command of its configuration
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
        }

    def commit(self, at: str) -> str:
        """The full name of a commit, tag or branch."""
        if not at or at.startswith("-") or "\0" in at:
            raise UsageError(f"got {at!r} as a commit")
        done = self._run(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{at}^{{commit}}"])
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise BadInput(
                f"{self._folder} has no commit {at!r}" + (f": {said[0][:200]}" if said else ""),
                hint="give a commit, tag or branch; git log --oneline lists commits",
            )
        return done.stdout.decode("ascii", "replace").strip()

    def facts(self, commit: str) -> dict[str, str]:
        """For metadata: the commit and its date, UTC."""
        found = {"commit": commit}
        for line in self._output(["cat-file", "commit", commit]).split(b"\n\n")[0].splitlines():
            if line.startswith(b"committer "):
                seconds = line.rsplit(b" ", 2)[-2:-1]
                try:
                    date = datetime.fromtimestamp(int(seconds[0]), UTC)
                    found["commit_date"] = date.strftime("%Y-%m-%dT%H:%M:%SZ")
                except (ValueError, IndexError, OverflowError, OSError):
                    pass
        return found

    def tree(self, commit: str) -> Iterator[_Blob]:
        """All entries but folders, in git's order."""
        for line in self._output(["ls-tree", "-r", "-z", "-l", "--full-tree", commit]).split(b"\0"):
            facts, tab, name = line.partition(b"\t")
            if tab:
                mode, kind, oid, size = facts.decode("ascii", "replace").split()
                yield _Blob(mode, kind, oid, int(size) if size.isdigit() else 0, name)

    def reading(self) -> _Objects:
        return _Objects([*self._command, "cat-file", "--batch"], self._environment)

    def _output(self, arguments: Sequence[str]) -> bytes:
        done = self._run(arguments)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise BadInput(
                f"git {arguments[0]} cannot read {self._folder}" + (f": {said[0][:200]}" if said else "")
            )
        return done.stdout

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                [*self._command, *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise BadInput(
                f"git {arguments[0]} took more than {_TIMEOUT_SECONDS} s on {self._folder}"
            ) from error


def _git_folder(place: Path) -> str:
    """The folder of a repository's objects: the place itself when bare, else its ``.git``."""
    for folder in (place / ".git", place):
        if folder.is_file():
            return _pointed_to(folder)
        if (folder / "objects").is_dir() and (folder / "HEAD").exists():
            return str(folder)
    raise BadInput(f"{place} is no git repository", hint="give its folder, or a bare repository")


def _pointed_to(file: Path) -> str:
    """A worktree's or submodule's ``.git`` file names the folder."""
    text = file.read_bytes()[:4_096].decode("utf-8", "surrogateescape").strip()
    if not text.startswith("gitdir: "):
        raise BadInput(f"{file} names no git folder")
    return str((file.parent / text.removeprefix("gitdir: ")).resolve())


class _Objects:
    """A running ``git cat-file --batch``."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.has_ended = False
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> _Objects:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def _answers(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def ask(self, oids: Sequence[str]) -> bool:
        """False when git has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("".join(f"{oid}\n" for oid in oids).encode("ascii"))
            self._process.stdin.flush()
        except OSError:
            self.has_ended = True
        return not self.has_ended

    def answer(self, oid: str, size: int) -> bytes | None:
        """The object asked for next, or None where it is missing, damaged, or not the one that was listed."""
        parts = self._answers.readline(1_024).split()
        if len(parts) != 3 or not parts[2].isdigit():
            self.has_ended = not parts
            return None
        num_bytes = int(parts[2])
        data = None
        if num_bytes == size:
            data = self._answers.read(num_bytes)
        else:
            self._pass_over(num_bytes)
        self.has_ended = self._answers.read(1) != b"\n"
        return data if data is not None and len(data) == size and parts[0] == oid.encode() else None

    def _pass_over(self, num_bytes: int) -> None:
        while num_bytes > 0 and (data := self._answers.read(min(num_bytes, 1 << 20))):
            num_bytes -= len(data)
