"""Where the time of one scrape goes, inside one process and without HTTP: the kernel, the decoder, the rest.

Each stage is timed on its own after the same move of bytes: reading the dump and throwing it away (what the kernel
takes, the floor of any reader); the kernel source, which decodes it; the whole of `Exporter.scrape`.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

from wg_exporter.config import Config
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.linux.netlink import GENERIC, NETLINK_GENERIC, Families, Netlink, attribute
from wg_exporter.reader.host import host_sources
from wg_exporter.reader.kernel.dump import WGDEVICE_A_IFINDEX
from wg_exporter.reader.kernel.source import WG_CMD_GET_DEVICE, WG_GENL_VERSION, KernelSource

if TYPE_CHECKING:
    from collections.abc import Callable


class Stages:
    """The stages for one device. Use the same object for all rounds: what is kept between reads is what is measured."""

    def __init__(self, ifindex: int) -> None:
        """Raises LookupError if the kernel has no WireGuard."""
        self._netlink = Netlink(NETLINK_GENERIC)
        family = Families(self._netlink).get("wireguard")
        if family is None:
            raise LookupError("the kernel has no WireGuard")
        self._family = family
        self._request = GENERIC.pack(WG_CMD_GET_DEVICE, WG_GENL_VERSION, 0)
        self._request += attribute(WGDEVICE_A_IFINDEX, struct.pack("=I", ifindex))
        self._source = KernelSource()
        self._exporter = Exporter(Config(), None, host_sources)
        self._exporter.tick()  # as the daemon, which has always ticked before it is scraped
        self.measure()

    def measure(self) -> dict[str, float]:
        """Seconds of each stage; the later ones contain the earlier ones."""
        return {
            "kernel answers": _timed(self._dump),
            "read and decoded": _timed(self._source.read),
            "rendered": _timed(lambda: self._exporter.scrape("")),
        }

    def close(self) -> None:
        """End the threads and close the sockets."""
        self._exporter.stop()
        self._source.close()
        self._netlink.close()

    def _dump(self) -> None:
        for _ in self._netlink.dump(self._family, self._request):
            pass


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
