"""Copies of the checkout, in which a file is changed and tests run, while the checkout stays as it is.

A copy has a virtual environment of its own, whose packages are those of the checkout's, except ours: ours is the copy.
So a process that a test starts, in whatever directory and environment, runs the changed program too.

Each run has process ids and a /run of its own (unshare(1)). All that a changed program leaves behind ends with the run:
processes, network namespaces, control sockets.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The shell is process 1 there: it takes in orphans, and when it ends, all others have ended. Without `exit` it would
# make way for its last command. 137 is what timeout(1) ends with after a SIGKILL.
_ALONE = """\
mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/netns /run/wireguard && timeout --foreground -s KILL "$@"
exit $?
"""
_STOPPED = 137
ALONE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


class Ran(NamedTuple):
    """How a command ended, None if it had to be stopped; what it wrote, and the seconds that it took."""

    code: int | None
    output: str
    seconds: float

    @property
    def well(self) -> bool:
        """Whether it ended with 0."""
        return self.code == 0


class StoppedError(Exception):
    """A tree was told to stop."""


class Tree:
    """One copy. For one thread at a time, but for `stop`."""

    def __init__(self, checkout: Path, directory: Path) -> None:
        self._directory = directory
        self._changes = 0
        self._starting = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in listed.stdout.split("\0"):
            if name and (checkout / name).exists():
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(checkout / name, directory / name, follow_symlinks=False)
        self._python = str(_environment(directory))

    def run(self, command: Sequence[str], limit: float) -> Ran:
        """Run Python with these arguments, and stop it and all that it started after `limit` seconds."""
        began = time.monotonic()
        command = [*ALONE, "sh", "-c", _ALONE, "sh", str(limit), self._python, *command]
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            with self._starting:
                if self._stopped:
                    raise StoppedError
                self._process = subprocess.Popen(
                    command,
                    cwd=self._directory,
                    env={**os.environ, "CI": "true"},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            code = self._process.wait()
            output.seek(0)
            return Ran(None if code == _STOPPED else code, output.read(), time.monotonic() - began)

    def stop(self) -> None:
        """End what runs, from another thread, and run nothing any more."""
        with self._starting:
            self._stopped = True
            if self._process is not None:
                _end(self._process)

    def test(self, target: str, limit: float, *, without: Sequence[str] = ()) -> tuple[Ran, str]:
        """Run a file of tests or one test until the first failure, and say what failed: "" if none."""
        shutil.rmtree(self._directory / ".pytest_cache", ignore_errors=True)
        flags = ["-x", "-q", "--tb=short", *(f"--deselect={test}" for test in without)]
        ran = self.run(["-m", "pytest", *flags, target], limit)
        if ran.well:
            return ran, ""
        with contextlib.suppress(OSError, ValueError):
            failed = json.loads((self._directory / ".pytest_cache/v/cache/lastfailed").read_text())
            return ran, next(iter(failed), target)
        return ran, target

    @contextlib.contextmanager
    def changed(self, name: str, code: str, *, written: Sequence[str] = ()) -> Iterator[None]:
        """A file has other contents for a while. Afterwards it is as before, and so is what has a `written` pattern."""
        with contextlib.ExitStack() as stack:
            for path in (self._directory / name, *(path for one in written for path in self._directory.glob(one))):
                stack.callback(_write, path, path.read_bytes(), path.stat().st_mtime_ns)
            # Python tells by the second whether a compiled file is still good: no two changes have the same one.
            self._changes += 1
            _write(self._directory / name, code.encode(), self._changes * 10**9)
            yield


def _end(process: subprocess.Popen[bytes]) -> None:
    """End unshare(1) by its child, process 1 of the run: so the others have ended too when it has."""
    with contextlib.suppress(OSError):  # it has ended by itself
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in children or [process.pid]:
            os.kill(int(pid), signal.SIGKILL)
    process.wait()


def _write(path: Path, contents: bytes, mtime_ns: int) -> None:
    path.write_bytes(contents)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def _environment(directory: Path) -> Path:
    """A virtual environment whose packages are those of the one that runs this, and the sources in `directory`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory / ".venv"], check=True)
    python = directory / ".venv/bin/python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    # Files .pth in a directory that is named by one are not read, and by such a file the checkout is installed.
    paths = dict.fromkeys([str(directory), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (Path(told.stdout.strip()) / "packages.pth").write_text("".join(f"{path}\n" for path in paths))
    return python


@contextlib.contextmanager
def trees(checkout: Path, count: int) -> Iterator[list[Tree]]:
    """So many copies, for a while. Another user can read them: some tests drop their privileges."""
    with tempfile.TemporaryDirectory(prefix="wg-mutants-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        made = [Tree(checkout, directory / str(number)) for number in range(count)]
        try:
            yield made
        finally:
            for tree in made:
                tree.stop()
