"""`--pcap`: what was really on the wire, probes and answers, in a file that Wireshark opens.

A filter in the kernel passes only what can be a probe or its answer. Of these, a packet is written if it carries or
quotes the token of one of our probes, or is a later fragment of one that does. The file and the sockets: `cli/pcap.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.cli import pcap
from wg_exporter.cli.frames import FRAGMENT, ICMP, ICMPV6, UDP, Fragments
from wg_exporter.cli.pcap import PACKET_OUTGOING, PACKET_TYPE
from wg_exporter.prober.wire import bpf
from wg_exporter.prober.wire.bpf import Step
from wg_exporter.prober.wire.in_flight import FIRST_PORT, PORTS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from wg_exporter.prober.wire.sockets import Opener


class Capture(pcap.Capture):
    """A capture file and the sockets that feed it. `probes`, then `drain` many times a second, then `close`."""

    def __init__(self, path: Path, open_socket: Opener) -> None:
        """Create or empty the file. Raises CaptureError where it is no regular file, or can't be written."""
        super().__init__(path, open_socket)
        self._fragments = Fragments()

    def probes(self, netns: str, tunnels: Collection[str]) -> None:
        """Capture in this namespace; packets on the interfaces of `tunnels` are inner ones. Raises CaptureError."""
        self.listen(netns, tunnels, capture_filter())

    def drain(self, ours: Callable[[int], bool]) -> None:
        """Write what has come since the last call and is ours, in order of time. Raises CaptureError.

        `ours` tells whether a token (64 bits) is that of one of our probes.
        """
        for one in self.caught():
            if self._fragments.belong(one.data, ours):
                self.write(one)


def capture_filter() -> bytes:
    """A filter in classic BPF: ICMP, ICMPv6 and their fragments, and what is sent by UDP to the ports of probes.

    Other UDP, of which a busy tunnel carries much, must not wake us. Packets begin with their IP header.
    """
    return bpf.assemble(
        Step(bpf.LOAD_BYTE, 0),
        Step(bpf.AND, 0xF0),
        Step(bpf.IF_EQUAL, 0x40, then="IPv4"),
        Step(bpf.IF_EQUAL, 0x60, otherwise="drop"),
        Step(bpf.X_IS, 40),  # where what is in an IPv6 packet begins
        Step(bpf.LOAD_BYTE, 6),
        Step(bpf.IF_EQUAL, FRAGMENT, otherwise="next header"),
        Step(bpf.LOAD_BYTE, 40),
        "next header",
        Step(bpf.IF_EQUAL, ICMPV6, then="pass"),
        Step(bpf.IF_EQUAL, UDP, then="port", otherwise="drop"),
        "IPv4",
        Step(bpf.X_IS_HEADER, 0),
        Step(bpf.LOAD_BYTE, 9),
        Step(bpf.IF_EQUAL, ICMP, then="pass"),
        Step(bpf.IF_EQUAL, UDP, otherwise="drop"),
        "port",
        Step(bpf.LOAD_HALF_X, 2),
        Step(bpf.IF_AT_LEAST, FIRST_PORT, otherwise="drop"),
        Step(bpf.IF_AT_LEAST, FIRST_PORT + PORTS, then="drop"),
        Step(bpf.LOAD_WORD, PACKET_TYPE),
        Step(bpf.IF_EQUAL, PACKET_OUTGOING, then="pass", otherwise="drop"),
    )
