"""Programs that mean harm, really run: each is contained, counted, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.errors import UsageError
from headwater.synthesis.sandbox import Limits, Sandbox

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap is not installed: nothing generated is run without it"
)
pytestmark = needs_bubblewrap


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(Limits(wall_seconds=10))


@pytest.fixture(scope="module")
def hasty() -> Sandbox:
    return Sandbox(Limits(wall_seconds=0.5))


def test_an_honest_program_runs_and_reads_its_input(sandbox: Sandbox) -> None:
    done = sandbox.run("import sys, json\nprint(json.dumps(sys.stdin.read()[::-1]))", stdin="né\n")
    assert (done.status, done.exit_code, done.stdout) == ("passed", 0, '"\\n\\u00e9n"\n')
    assert sandbox.run("raise SystemExit(3)").exit_code == 3
    failed = sandbox.run("assert 1 == 2, 'no'")
    assert failed.status == "failed" and "AssertionError: no" in failed.stderr


def test_surrogates_and_zeros_do_not_break_the_harness(sandbox: Sandbox) -> None:
    assert sandbox.run("print('\ud800')").status == "failed"
    assert sandbox.run("x = 1\0").status == "failed"
    assert sandbox.run("").status == "passed"


@pytest.fixture
def listener() -> Iterator[int]:
    """A server of this machine that counts who comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_no_network_not_even_this_machine(sandbox: Sandbox, listener: int) -> None:
    loopback = sandbox.run(f"import socket\nsocket.create_connection(('127.0.0.1', {listener}))")
    assert "ConnectionRefusedError" in loopback.stderr
    outside = sandbox.run("import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=2)")
    assert "Network is unreachable" in outside.stderr


def test_no_files_of_this_machine(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("do not read")
    monkeypatch.setenv("HEADWATER_TEST_SECRET", "do not read either")
    program = f"""
import os, pathlib
for path in [{str(secret)!r}, "/etc/passwd", "/proc/1/environ", "/var", "/work", {str(Path.cwd())!r}]:
    try:
        found = os.listdir(path) if os.path.isdir(path) else pathlib.Path(path).read_text()
    except OSError:
        continue
    print("read", path, found)
print(sorted(os.environ))
"""
    done = sandbox.run(program)
    assert "read /etc" not in done.stdout and "do not read" not in done.stdout
    assert str(secret) not in done.stdout and f"read {Path.cwd()}" not in done.stdout
    assert "HEADWATER_TEST_SECRET" not in done.stdout


def test_what_it_writes_is_bounded_and_gone(sandbox: Sandbox) -> None:
    done = sandbox.run("open('/tmp/left', 'w').write('x')\nopen('/usr/left', 'w')")
    assert "Read-only file system" in done.stderr
    assert not Path("/tmp/left").exists()
    assert "FileNotFoundError" in sandbox.run("open('/tmp/left')").stderr
    one = sandbox.run("with open('/tmp/big', 'wb') as f:\n  while True: f.write(bytes(1 << 20))")
    assert "File too large" in one.stderr
    many = sandbox.run("n = 0\nwhile True:\n  open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))\n  n += 1")
    assert "No space left on device" in many.stderr


def test_memory_is_bounded(sandbox: Sandbox) -> None:
    assert "MemoryError" in sandbox.run("x = bytearray(4 << 30)").stderr
    slow = sandbox.run("x = []\nwhile True: x.append(bytes(1 << 20))")
    assert slow.status == "failed" and "MemoryError" in slow.stderr


def test_forks_are_bounded_and_none_outlives_the_run() -> None:
    sandbox = Sandbox(Limits(wall_seconds=10, processes=12))
    mark = f"hw-{secrets.token_hex(4)}"  # other tests, and other people, run programs of the same name
    named = f"open('/proc/self/comm', 'w').write({mark!r})\n"
    program = """
import os, time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(600)
        made += 1
except OSError:
    print(made, open('/proc/self/comm').read())
"""
    done = sandbox.run(named + program)
    made, name = done.stdout.split()
    assert done.status == "passed" and 1 <= int(made) < 12 and name == mark
    assert not _left_running(mark)
    bomb = sandbox.run(named + "import os\nwhile True: os.fork()")
    assert bomb.status in ("failed", "timed out")
    assert not _left_running(mark)


def _left_running(name: str) -> list[str]:
    """Processes of this name that are still there when the kernel had time to end them."""
    until = time.monotonic() + 30
    while (found := _processes(name)) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def _processes(name: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended just now
            if (process / "comm").read_text().strip() == name:
                found.append(process.name)
    return found


def test_two_commands_share_no_limit_of_processes(sandbox: Sandbox) -> None:
    """As root each program is a user of its own, whichever process starts it."""
    script = (
        "from headwater.synthesis.sandbox import Sandbox\n"
        "print(Sandbox().run('import os; print(os.getuid())').stdout.strip())"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    own = {sandbox.run("import os; print(os.getuid())").stdout.strip() for _ in range(3)}
    if os.geteuid() == 0:
        assert len(own | {other.stdout.strip()}) == 4
    else:  # the kernel counts the processes of each world of users by itself
        assert own == {str(os.geteuid())}


def test_a_short_limit_does_not_keep_the_sandbox_from_starting() -> None:
    hasty = Sandbox(Limits(wall_seconds=1e-6))
    assert hasty.limits.wall_seconds == 1e-6
    assert hasty.run("print(1)").status == "timed out"


def test_endless_programs_end(hasty: Sandbox) -> None:
    for program in (
        "while True: pass",
        "import time\ntime.sleep(600)",
        "input = open(0).read\nwhile 1: input()",
    ):
        assert hasty.run(program).status == "timed out"
    ignores = "import signal, time\n[signal.signal(s, signal.SIG_IGN) for s in (2, 15)]\ntime.sleep(600)"
    assert hasty.run(ignores).status == "timed out"


def test_endless_output_is_cut(sandbox: Sandbox) -> None:
    done = sandbox.run("while True: print('spam' * 1000)")
    assert done.status == "too much output"
    assert len(done.stdout) == sandbox.limits.output_bytes
    quiet = sandbox.run("import sys\nwhile True: sys.stderr.write('spam' * 1000)")
    assert quiet.status == "too much output" and quiet.stdout == ""


def test_it_cannot_rise(sandbox: Sandbox) -> None:
    program = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
print("user namespace", libc.unshare(0x10000000))
print("mount", libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
print("root", os.getuid() == 0)
try:
    os.setuid(0)
    print("became root")
except OSError:
    print("stays")
try:
    os.kill(1, signal.SIGKILL)
except OSError:
    print("cannot kill")
"""
    done = sandbox.run(program)
    assert done.stdout.split("\n")[:4] == ["user namespace -1", "mount -1", "root False", "stays"]


def test_no_packages_of_the_environment(sandbox: Sandbox) -> None:
    assert "ModuleNotFoundError" in sandbox.run("import numpy").stderr


def test_many_at_once_come_back_in_order(sandbox: Sandbox) -> None:
    before = set(threading.enumerate())
    programs = [f"print({n})" if n % 5 else "raise SystemExit(1)" for n in range(40)]
    outcomes = list(sandbox.run_all(iter(programs), workers=4))
    assert [o.stdout.strip() for o in outcomes] == [str(n) if n % 5 else "" for n in range(40)]
    assert [o.status for o in outcomes] == ["passed" if n % 5 else "failed" for n in range(40)]
    assert set(threading.enumerate()) <= before


def test_without_bubblewrap_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in ("setpriv", "prlimit"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="bwrap is not installed"):
        Sandbox()
    monkeypatch.setenv("PATH", os.defpath)
