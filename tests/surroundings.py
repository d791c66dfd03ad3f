"""What every test finds around it, whoever started it and from where: `settle`, called once, before tests are read.

A shell, a script in the background, cron, CI and a terminal each leave a process something else: signals ignored, an
umask, a locale, the width and colours of a terminal, a proxy, variables that Python or Go programs obey. Tests start
programs that inherit it all, and compare what these print to the letter. So what decides is set here, once for all;
a test that wants something else says so itself.

The network is one of our own, with a loopback and nothing else: whether the machine has IPv6, which of its ports are
taken, its firewall and who else probes there are nothing to the tests. Whatever has to reach the world is started by
the command line that `outside` makes, with the variables in OUTSIDE.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import resource
import signal
import socket
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTSIDE = dict(os.environ)

_OBEYED = re.compile(
    r"""LANGUAGE | LC_.* | TZ
      | COLUMNS | LINES | COLORTERM | NO_COLOR | FORCE_COLOR | CLICOLOR.* | TTY_.*  # rich and click
      | \w+_proxy | \w+_PROXY
      | GO(DEBUG|GC|MAXPROCS|MEMLIMIT|TRACEBACK) | LOG_LEVEL  # of programs in Go, wireguard-go among them
      | WG_(COLOR|ENDPOINT|HIDE|PROCESS|TUN|UAPI)_\w+  # wg and wireguard-go
      | NOTIFY_SOCKET | LISTEN_\w+ | INVOCATION_ID | JOURNAL_STREAM  # a service manager's""",
    re.VERBOSE,
)
_SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # a plain user's PATH lacks them, and `su` keeps it
_FILES = 1024  # open at once: what a login gives
_LONGEST = 40  # characters of a directory; a socket's path has 107, and pytest's names come in between
_CLONE_NEWNET, _SIOCSIFFLAGS, _IFF_UP = 0x40000000, 0x8914, 1  # linux/sched.h, linux/sockios.h, linux/if.h

_nsenter: list[str] = []  # in front of a command, once we have left the machine's network


def begin() -> None:
    """What has to be right before lanes are started, which settle by themselves but read these first."""
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    if not _fit(Path(tempfile.gettempdir())):
        os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"


def settle() -> None:
    """Gives this process, and all that it starts, the surroundings that tests are written for."""
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > _FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))
    else:
        with contextlib.suppress(ValueError):  # only root may, and not in every container
            resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
    begin()
    for name in filter(_OBEYED.fullmatch, [*os.environ]):
        del os.environ[name]
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    more = [directory for directory in _SYSTEM if directory not in path]
    os.environ |= {"LANG": "C.UTF-8", "TERM": "xterm", "PATH": os.pathsep.join(path + more)}
    if not _fit(Path(tempfile.gettempdir())):
        os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"

    if os.geteuid() == 0:
        _have_a_network()


def outside(command: Sequence[str]) -> list[str]:
    """The command line that runs this one in the network of the machine."""
    return [*_nsenter, *command]


def _have_a_network() -> None:
    """Ours from now on, and that of all that we start. A container may have no right to one: then it has its own."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if ctypes.CDLL(None).unshare(_CLONE_NEWNET):
        os.close(before)
        return
    _nsenter[:] = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{before}", "--"]
    for setting in ("all", "default"):
        with contextlib.suppress(OSError):  # of a kernel without IPv6
            Path(f"/proc/sys/net/ipv6/conf/{setting}/disable_ipv6").write_text("0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _fit(directory: Path) -> bool:
    """Whether temporary files there can be reached by any user, and sockets by their whole path."""
    there = directory.resolve()
    return len(str(there)) <= _LONGEST and all(at.stat().st_mode & 0o001 for at in (there, *there.parents))
