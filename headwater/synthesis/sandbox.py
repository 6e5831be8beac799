"""Run code that nobody has read: no network, no files of the machine, bounded time, memory and processes.

Bubblewrap builds a world of its own for each program (mounts, processes, network, users); inside it, limits
of the kernel bound what a program may take. Without bubblewrap there is no sandbox, and nothing is run.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from headwater.errors import UsageError

Status = Literal["passed", "failed", "timed out", "too much output"]

PROGRAM = "/tmp/program.py"  # noqa: S108  (a path inside the sandbox, on its own file system)
AGAIN = "/bwrap"
"""Where bubblewrap stands inside the sandbox when the machine's own lies outside ``/usr``."""
READ_BYTES = 1 << 16
FIRST_UID, NUM_UIDS = 1_000_000, 2_000_000_000
"""As root every program runs under a user of its own, drawn from these: the kernel counts processes by user,
and root's not at all. Numbers this high belong to nobody (login.defs ends users at 60,000), and so many that
the programs of two commands that run at once do not share one's limit."""

PROOF_SECONDS = 60.0
"""A machine that is busy starts a program late: what is asked here is whether it starts at all."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one program may take.

    ``wall_seconds`` ends the program whatever it does; ``cpu_seconds`` counts each process;
    ``memory_bytes`` is address space per process (Python itself takes about 20 MB);
    ``processes`` counts threads too; ``disk_bytes`` bounds all files, which live in memory;
    ``output_bytes`` bounds what is read of stdout and of stderr.
    """

    wall_seconds: float = 5.0
    cpu_seconds: int = 5
    memory_bytes: int = 512 << 20
    processes: int = 16
    disk_bytes: int = 16 << 20
    output_bytes: int = 64 << 10


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one program ended. ``exit_code`` is negative for a signal, as in ``subprocess``.

    ``status``: *passed* is exit code 0; anything else that ended by itself or by a limit of the kernel
    (memory, processor time, processes) is *failed*.
    """

    status: Status
    exit_code: int
    stdout: str
    stderr: str
    seconds: float


class Sandbox:
    """Runs Python programs apart from this machine.

    Raises
    ------
    UsageError
        Bubblewrap, ``setpriv`` or ``prlimit`` is missing, or the kernel refuses to make a world:
        said at construction, before any program is run.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        for tool in ("prlimit", "setpriv"):
            _find(tool)
        self._bwrap = _find("bwrap")
        self.limits = Limits(wall_seconds=PROOF_SECONDS)
        proof = self.run("print(6 * 7)")
        if proof.stdout.strip() != "42":
            raise UsageError(
                f"the sandbox does not start here: {proof.stderr.strip() or proof.status}",
                hint="bubblewrap needs user namespaces: sysctl kernel.unprivileged_userns_clone=1, "
                "or a container that allows them",
            )
        self.limits = limits or Limits()

    def run(self, program: str, *, stdin: str = "") -> Outcome:
        """Run one Python program; never raises for anything the program does."""
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as given:
            source.write(program.encode("utf-8", "surrogatepass"))
            given.write(stdin.encode("utf-8", "surrogatepass"))
            source.seek(0)
            given.seek(0)
            began = time.perf_counter()
            process = subprocess.Popen(
                self._command(source.fileno()),
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(source.fileno(),),
                start_new_session=True,
                env={},
            )
            return _watch(process, self.limits, began)

    def run_all(
        self, programs: Iterable[str], *, inputs: Iterable[str] | None = None, workers: int | None = None
    ) -> Iterator[Outcome]:
        """The outcome of each program, in order; ``workers`` at once (the number of cores).

        ``inputs``: what each of them reads on stdin; nothing without it.
        """
        workers = workers or os.cpu_count() or 1
        given = itertools.repeat("") if inputs is None else inputs

        def start(waiting: Iterator[tuple[str, str]], count: int) -> list[Future[Outcome]]:
            return [
                pool.submit(self.run, program, stdin=text)
                for program, text in itertools.islice(waiting, count)
            ]

        with ThreadPoolExecutor(workers) as pool:
            waiting = zip(programs, given, strict=False)
            running = start(waiting, 2 * workers)
            while running:
                outcome = running.pop(0).result()
                running += start(waiting, 1)
                yield outcome

    def _command(self, source: int) -> list[str]:
        """Bubblewrap makes the world; inside it setpriv gives up every right, and prlimit sets the limits.

        The limits come last: a limit on the processes of root would bind nobody. Bubblewrap 0.8 or later.
        """
        limits, root = self.limits, os.geteuid() == 0
        world = [
            *("--ro-bind", "/usr", "/usr"),
            *(part for name in ("bin", "lib", "lib64") for part in _link(name)),
            *_interpreter(),
            *("--proc", "/proc", "--dev", "/dev"),
            *("--size", str(limits.disk_bytes), "--perms", "1777", "--tmpfs", "/tmp"),  # noqa: S108
            *("--perms", "0444", "--ro-bind-data", str(source), PROGRAM, "--chdir", "/tmp"),  # noqa: S108
            *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
            *("--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"),
            *("--setenv", "PATH", "/usr/bin"),
        ]
        # No user namespaces in the world: they are where holes of the kernel are looked for.
        no_more = ["--unshare-user", "--disable-userns"]
        if root:
            # Root first becomes a user of its own, which only root's own world allows, and then goes
            # through a second one to shut the door.
            uid = str(FIRST_UID + secrets.randbelow(NUM_UIDS))
            within = self._bwrap if Path(self._bwrap).is_relative_to("/usr") else AGAIN
            if within == AGAIN:
                world += ["--ro-bind", self._bwrap, AGAIN]
            world += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
            leave = ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--bounding-set=-all", "--"]
            inner = [*leave, within, "--bind", "/", "/", "--proc", "/proc", "--dev", "/dev", *no_more, "--"]
        else:
            world += no_more
            inner = []
        return [
            *(self._bwrap, *world, "--", *inner),
            *("setpriv", "--inh-caps=-all", "--no-new-privs", "--"),
            *("prlimit", f"--nproc={limits.processes}", f"--as={limits.memory_bytes}"),
            *(f"--cpu={limits.cpu_seconds}", f"--fsize={limits.disk_bytes}", "--core=0", "--nofile=64", "--"),
            *(_python(), "-I", "-S", "-B", PROGRAM),
        ]


def _watch(process: subprocess.Popen[bytes], limits: Limits, began: float) -> Outcome:
    """Read both streams in bounded memory, and end the program at its time or at too much output."""
    too_much = threading.Event()
    assert process.stdout is not None and process.stderr is not None
    found: dict[str, bytes] = {}
    readers = [
        threading.Thread(target=_read, args=(name, stream, limits.output_bytes, found, too_much, process))
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))
    ]
    for reader in readers:
        reader.start()
    try:
        process.wait(limits.wall_seconds)
        late = False
    except subprocess.TimeoutExpired:
        late = True
        _kill(process)
        process.wait()
    for reader in readers:
        reader.join()
    process.stdout.close()
    process.stderr.close()
    status: Status = "passed" if process.returncode == 0 else "failed"
    if too_much.is_set():
        status = "too much output"
    elif late:
        status = "timed out"
    return Outcome(
        status=status,
        exit_code=process.returncode,
        stdout=found["stdout"].decode("utf-8", "replace"),
        stderr=found["stderr"].decode("utf-8", "replace"),
        seconds=time.perf_counter() - began,
    )


def _read(
    name: str,
    stream: IO[bytes],
    limit: int,
    found: dict[str, bytes],
    too_much: threading.Event,
    process: subprocess.Popen[bytes],
) -> None:
    kept = b""
    while chunk := os.read(stream.fileno(), READ_BYTES):
        kept += chunk
        if len(kept) > limit:
            too_much.set()
            _kill(process)
            kept = kept[:limit]
            break
    found[name] = kept


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Bubblewrap is the parent of the world's first process: when it goes, the kernel ends them all."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _link(name: str) -> tuple[str, ...]:
    """``/lib`` and its like as this machine has them: a link into ``/usr``, a folder, or nothing."""
    path = Path("/", name)
    if path.is_symlink():
        return ("--symlink", str(path.readlink()), str(path))
    return ("--ro-bind", str(path), str(path)) if path.is_dir() else ()


def _interpreter() -> list[str]:
    """Python's own folder where it is not in ``/usr``; bubblewrap would make its parents for root alone."""
    home = Path(sys.base_prefix).resolve()
    if home.is_relative_to("/usr"):
        return []
    parents = [str(parent) for parent in reversed(home.parents[:-1])]
    folders = [part for parent in parents for part in ("--perms", "0755", "--dir", parent)]
    return [*folders, "--ro-bind", str(home), str(home)]


def _python() -> str:
    """The interpreter itself, not a virtual environment's link: packages stay outside."""
    return str(Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}").resolve())


def _find(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        package = "bubblewrap" if tool == "bwrap" else "util-linux"
        raise UsageError(
            f"{tool} is not installed: generated code runs in a sandbox or not at all",
            hint=f"install {package} (Debian and Ubuntu: apt-get install {package})",
        )
    return found
