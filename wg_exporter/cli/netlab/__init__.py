"""Real WireGuard networks out of network namespaces, for the demo and for the tests.

A lab reads as its topology:

    with Lab("wglab-", directory) as lab:
        hub, office = lab.namespace("hub"), lab.namespace("office")
        lab.link(hub, office, "192.0.2.1/30", "192.0.2.2/30", mtu=1500)
        lab.wireguard(hub, "hub", conf=..., addresses=["10.0.0.1/24"])

**All that a lab makes can be recognised from outside.** The names of its namespaces, devices and sockets begin with its
prefix, and its processes have the prefix in their environment. So `close` needs no memory of what was built: it cleans
up after success, after an exception half way, and, called by the next run, after a `kill -9`. It stops no process and
removes no namespace of anyone else.

Kernel WireGuard is used if the kernel has it, else wireguard-go. The control sockets of all namespaces share one
directory, so the prefix also makes device names unique on the whole host.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from wg_exporter.cli.netlab.processes import MARK, stop_marked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAMESPACES = Path("/run/netns")
SOCKETS = Path("/var/run/wireguard")
_NO_RP_FILTER = "for one in all default lo; do echo 0 >/proc/sys/net/ipv4/conf/$one/rp_filter; done"
COMMAND_TIMEOUT = 10.0  # seconds: `ip` and `wg` take milliseconds, unless the kernel is stuck
START_TIMEOUT = 5.0  # seconds for wireguard-go to open its socket; usually 0.1
NO_SUCH_KIND = ("Unknown device type.", "Operation not supported")  # what newer and older kernels say
LONGEST_NAME = 15  # IFNAMSIZ - 1 (linux/if.h)


class LabError(Exception):
    """Something could not be built; the message is one line with the command and the reason."""


class DeniedError(LabError):
    """The kernel did not permit it."""


class NoSuchKindError(LabError):
    """The kernel has no devices of this kind."""


class Keys(NamedTuple):
    """A WireGuard key pair of a lab, base64. Never a key of the host."""

    private: str
    public: str


def missing() -> list[str]:
    """What this host lacks for a lab, a line each with the remedy; empty if a lab can be built."""
    lines = []
    if os.geteuid() != 0:
        lines.append("not root: network namespaces need it; run this with sudo")
    tools = {"ip": "iproute2", "wg": "wireguard-tools", "ping": "iputils-ping"}
    kernel = _kernel_has_wireguard()
    if not kernel:
        tools["wireguard-go"] = "wireguard-go"
    lines += [
        f"{tool}: no such command; apt-get install {package}"
        for tool, package in tools.items()
        if not shutil.which(tool)
    ]
    if not kernel and not Path("/dev/net/tun").exists():
        lines.append("/dev/net/tun: missing; modprobe tun, or start the container with --device /dev/net/tun")
    return lines


def _kernel_has_wireguard() -> bool:
    if not Path("/sys/module/wireguard").exists() and shutil.which("modprobe"):
        with contextlib.suppress(LabError):  # this kernel has none
            run(["modprobe", "--quiet", "wireguard"])
    return Path("/sys/module/wireguard").exists()


def run(argv: Sequence[str], *, stdin: str = "", timeout: float = COMMAND_TIMEOUT) -> str:
    """Runs a command to its end and returns what it printed; raises LabError if it fails or takes too long (s)."""
    try:
        done = subprocess.run(  # noqa: S603 - our own command lines, never a shell
            argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
    except OSError as error:
        raise LabError(f"{argv[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv)}: no end after {timeout:g} s") from error
    if done.returncode:
        reason = done.stderr.strip().replace("\n", "; ") or f"exit code {done.returncode}"
        raise _failure(reason)(f"{' '.join(argv)}: {reason}")
    return done.stdout


def _failure(reason: str) -> type[LabError]:
    """The error that a command failed with. `ip` has the kernel's answer only in its text, not in the exit code."""
    if reason.endswith(NO_SUCH_KIND):
        return NoSuchKindError
    return DeniedError if os.strerror(errno.EPERM) in reason else LabError


def keypair() -> Keys:
    """A new pair of keys."""
    private = run(["wg", "genkey"]).strip()
    return Keys(private, run(["wg", "pubkey"], stdin=private).strip())


class Namespace:
    """A network namespace of a lab, named PREFIX + name."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.short = name
        self.name = lab.prefix + name

    def run(self, argv: Sequence[str], *, stdin: str = "", timeout: float = COMMAND_TIMEOUT) -> str:
        """Runs a command inside to its end and returns what it printed; raises LabError."""
        return run(self.inside(argv), stdin=stdin, timeout=timeout)

    def ip(self, *arguments: str) -> str:
        """`ip` on this namespace; raises LabError."""
        return run(["ip", "-n", self.name, *arguments])

    def inside(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` inside."""
        return ["ip", "netns", "exec", self.name, *argv]


class WireGuard:
    """A WireGuard device of a lab. `process` is its wireguard-go, None on a kernel device."""

    def __init__(self, namespace: Namespace, name: str, conf: Path, process: subprocess.Popen[bytes] | None) -> None:
        self.namespace = namespace
        self.name = name
        self.conf = conf
        self.process = process

    def handshakes(self) -> dict[str, int]:
        """Public key -> time of the last handshake in seconds since the epoch, 0 = never."""
        return {row[0]: int(row[1]) for row in self._show("latest-handshakes")}

    def transfer(self) -> dict[str, tuple[int, int]]:
        """Public key -> (rx, tx) in bytes."""
        return {row[0]: (int(row[1]), int(row[2])) for row in self._show("transfer")}

    def _show(self, what: str) -> list[list[str]]:
        return [line.split("\t") for line in self.namespace.run(["wg", "show", self.name, what]).splitlines()]


class Lab:
    """Network namespaces, links and WireGuard devices under one prefix; a context manager that removes them all.

    `directory` is the lab's own: made here, removed by `close`. `kernel`: True or False asks for this kind of device,
    None for any.
    """

    def __init__(self, prefix: str, directory: Path, *, kernel: bool | None = None) -> None:
        self.prefix = prefix
        self.directory = directory
        self._kernel = kernel
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def namespace(self, name: str) -> Namespace:
        """A new network namespace with its loopback up, and without the host's rp_filter, which systemd sets to 2."""
        namespace = Namespace(self, name)
        run(["ip", "netns", "add", namespace.name])
        namespace.run(["sh", "-c", _NO_RP_FILTER])
        namespace.ip("link", "set", "lo", "up")
        return namespace

    def link(self, a: Namespace, b: Namespace, a_address: str, b_address: str, *, mtu: int = 1500) -> tuple[str, str]:
        """A cable (veth) between two namespaces, with CIDR addresses. Returns the name of its end in `a` and in `b`."""
        ends = (f"to-{b.short}"[:LONGEST_NAME], f"to-{a.short}"[:LONGEST_NAME])
        a.ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", b.name)
        for namespace, end, address in ((a, ends[0], a_address), (b, ends[1], b_address)):
            # nodad: an IPv6 address is usable at once instead of after a second.
            namespace.ip("address", "add", address, "dev", end, *(["nodad"] if ":" in address else []))
            namespace.ip("link", "set", end, "mtu", str(mtu), "up")
        return ends

    def wireguard(
        self, namespace: Namespace, name: str, conf: str, addresses: Sequence[str] = (), *, mtu: int = 1420
    ) -> WireGuard:
        """A WireGuard device PREFIX + name, up, from the text of a `wg setconf` file.

        The file is kept as DIRECTORY/PREFIXname.conf, mode 0600. `addresses` are CIDR; raises LabError.
        """
        device = self.prefix + name
        if len(device) > LONGEST_NAME:
            raise LabError(f"{device}: a device name has at most {LONGEST_NAME} characters")
        path = self.write(f"{device}.conf", conf)
        process = None if self._add_kernel_device(namespace, device) else self._start_wireguard_go(namespace, device)
        namespace.run(["wg", "setconf", device, str(path)])
        for address in addresses:
            namespace.ip("address", "add", address, "dev", device)
        namespace.ip("link", "set", device, "mtu", str(mtu), "up")
        return WireGuard(namespace, device, path, process)

    def start(
        self, argv: Sequence[str], *, log: str, namespace: Namespace | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a process that ends with the lab, and writes what it prints to DIRECTORY/log."""
        argv = namespace.inside(argv) if namespace else argv
        self._make_directory()
        with (self.directory / log).open("ab") as output:
            # A session of its own: Ctrl-C at the terminal is for us, and we take the lab down in order.
            child = subprocess.Popen(  # noqa: S603 - our own command lines, never a shell
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(env or {}), MARK: self.prefix},
            )
        self._children.append(child)
        return child

    def write(self, name: str, text: str) -> Path:
        """Writes a file in the lab's directory, mode 0600 from the first byte on."""
        self._make_directory()
        path = self.directory / name
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return path

    def close(self) -> None:
        """Removes everything under this lab's prefix, whoever made it. Can be called at any time, and repeatedly.

        Raises LabError if a namespace can't be removed; all else is gone then.
        """
        stop_marked(self.prefix)
        for child in self._children:
            child.poll()
        self._children.clear()
        for path in SOCKETS.glob(f"{self.prefix}*.sock"):
            path.unlink(missing_ok=True)  # wireguard-go removes its own, unless it was killed
        shutil.rmtree(self.directory, ignore_errors=True)
        with contextlib.ExitStack() as deletions:  # tries all of them, also after one has failed
            for path in NAMESPACES.glob(f"{self.prefix}*"):
                deletions.callback(run, ["ip", "netns", "delete", path.name])

    def _make_directory(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _add_kernel_device(self, namespace: Namespace, device: str) -> bool:
        if self._kernel is False:
            return False
        try:
            namespace.ip("link", "add", device, "type", "wireguard")
        except NoSuchKindError:
            if self._kernel:
                raise
            self._kernel = False
            return False
        return True

    def _start_wireguard_go(self, namespace: Namespace, device: str) -> subprocess.Popen[bytes]:
        # Otherwise it prints a page of advice and goes into the background.
        env = {"LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1"}
        log = f"{device}.log"
        if (SOCKETS / f"{device}.sock").exists():
            raise LabError(f"{SOCKETS}/{device}.sock: already there, a second device of this name cannot be had")
        process = self.start(["wireguard-go", "-f", device], log=log, namespace=namespace, env=env)
        deadline = time.monotonic() + START_TIMEOUT
        while not _listening(SOCKETS / f"{device}.sock"):
            if process.poll() is not None or time.monotonic() > deadline:
                said = (self.directory / log).read_text(errors="replace").strip().splitlines()
                raise LabError(f"wireguard-go {device}: did not start: {said[-1] if said else 'it said nothing'}")
            time.sleep(0.01)
        return process


def _listening(path: Path) -> bool:
    """Whether the socket accepts connections; its file appears a moment earlier."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(COMMAND_TIMEOUT)
        return client.connect_ex(str(path)) == 0
