"""Boot a kernel under software emulation and run one script in it as root.

The guest sees the host's file system, so the project and its virtual environment are there under the same paths; what
it reads most it has from a disk of its own (tests/vm/disk.py). All that it writes goes to memory and is gone
afterwards, except one directory that both sides share. Everything takes about twenty times as long as on the host:
compare by ratio inside one run, never by absolute times.
"""

from __future__ import annotations

import compileall
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.vm import disk
from tests.vm.kernels import REPO, Kernel, Unavailable, busybox, kernel

if TYPE_CHECKING:
    from types import TracebackType

_NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "file": "file",  # by which vng finds out the kernel's version
    "wg": "wireguard-tools",
    "ip": "iproute2",
    "mke2fs": "e2fsprogs",
}
HIDDEN = ("/var/tmp", "/run", "/dev")  # where a guest has file systems of its own
# Whatever ends us, the guest ends too: the kernel kills the first of these, and that one a namespace of processes.
TOGETHER = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


class VmResult(NamedTuple):
    """What the script left behind. `rc` is its exit code; None means that it never came to an end, and `log`, the
    kernel's console, tells more."""

    rc: int | None
    out: str
    err: str
    log: str

    def __str__(self) -> str:
        log = self.log if self.rc is None else ""
        return f"exit code {self.rc} in the virtual machine\n{self.out}{self.err}{log}"


class Vm:
    """One kernel and one directory shared with its guests, which is `shared` on both sides.

    Every `run` is a boot of its own: seven seconds and a clean kernel.
    """

    def __init__(self, series: str, *, memory: str = "2G", cpus: int = 1, nice: int = 0) -> None:
        """Find or fetch the newest Debian kernel of this series. Raises Unavailable with the reason."""
        self._vng = _tools()
        self.kernel: Kernel = kernel(series)
        self._busybox = busybox()
        self._before = ("nice", "-n", str(nice), *TOGETHER)
        self._over = threading.Event()
        self._size = ("--memory", memory, "--cpus", str(cpus))
        self._directory = tempfile.TemporaryDirectory(prefix="wg-exporter-vm-")
        self.shared = Path(self._directory.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._directory.cleanup()

    def stop(self) -> None:
        """End the guest, and all that are still to come; from any thread."""
        self._over.set()

    def run(self, script: str, *, timeout: float = 300) -> VmResult:
        """Run a bash script in a new guest, with the repository as working directory. `timeout` is in seconds."""
        files = {name: self.shared / name for name in ("script.sh", "rc", "out", "err")}
        for path in files.values():
            path.unlink(missing_ok=True)
        # The guest can't write compiled files beside the sources, and would compile them at every start.
        compileall.compile_dir(REPO / "wg_exporter", quiet=2)
        image = disk.make(self.shared)
        files["script.sh"].write_text(f"{disk.mounting(image)}\ncd {shlex.quote(str(REPO))}\n{script}")
        # The console mixes the script's output with the kernel's, and vng has its own exit code: both go by file.
        there = {name: shlex.quote(str(path)) for name, path in files.items()}
        inside = (
            f"cd {shlex.quote(str(REPO))}; "
            f"bash {there['script.sh']} >{there['out']} 2>{there['err']} </dev/null; echo $? >{there['rc']}"
        )
        log = self._boot(inside, timeout)
        image.unlink()
        text = {name: path.read_text(errors="replace") if path.exists() else "" for name, path in files.items()}
        return VmResult(int(text["rc"]) if text["rc"].strip() else None, text["out"], text["err"], log)

    def _boot(self, inside: str, timeout: float) -> str:
        command = [*self._before, self._vng, "-r", str(self.kernel.image), "--disable-kvm", "--user", "root"]
        command += self._size
        # Emulated, this counter is as steady as the host's clock, and read twice as fast as the timer that Linux takes.
        command += ["-a", "tsc=reliable", "-a", "clocksource=tsc"]
        # What guards a real processor makes an emulated one start a process in three times the time.
        command += ["-a", "mitigations=off"]
        command += [f"--rwdir={self.shared}", "--", inside]
        # vng looks for its own helpers on PATH, and for busybox.
        path = (str(self._busybox), str(Path(self._vng).parent), os.environ.get("PATH", os.defpath))
        environment = os.environ | {"PATH": os.pathsep.join(path)}
        with (self.shared / "console").open("w+") as console:
            vm = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            deadline = time.monotonic() + timeout
            try:
                while vm.poll() is None and not self._over.wait(0.2):
                    if time.monotonic() > deadline:
                        console.write(f"\nstopped after {timeout:.0f} s\n")
                        break
            finally:
                if vm.poll() is None:  # also when the test run is interrupted: no guest is left behind
                    os.killpg(vm.pid, signal.SIGKILL)
                    vm.wait()
            console.seek(0)
            return "".join(console.readlines()[-60:])


def _tools() -> str:
    """The path of vng. Raises Unavailable when something is missing to boot a guest."""
    if os.geteuid() != 0:
        raise Unavailable("the virtual machine needs root: run as root")
    for hidden in HIDDEN:
        if REPO.is_relative_to(hidden):
            raise Unavailable(f"the virtual machine sees nothing of the host below {hidden}: move the checkout {REPO}")
    for tool, package in _NEEDED.items():
        if shutil.which(tool) is None:
            raise Unavailable(f"the virtual machine needs {tool}: apt-get install {package}")
    beside = Path(sys.executable).parent / "vng"
    found = str(beside) if beside.exists() else shutil.which("vng")
    if found is None:
        raise Unavailable("the virtual machine needs vng: pip install virtme-ng")
    return found
