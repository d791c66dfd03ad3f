"""Round trips of echoes as tcpdump saw them: the judge of those that the prober tells."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.utils import PcapReader

from tests.lab import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from scapy.packet import Packet

    from wg_exporter.cli.netlab import Lab, WireGuard

PATIENCE = 10  # seconds


class Echo(NamedTuple):
    """What an echo and its reply have in common."""

    ident: int
    sequence: int
    size: int  # of the IP packet


class Capture:
    """All echoes that pass a device from now on."""

    def __init__(self, lab: Lab, device: WireGuard) -> None:
        if not shutil.which("tcpdump"):
            pytest.skip("tcpdump: no such command; apt-get install tcpdump")
        self._file: Path = lab.directory / "echoes.pcap"
        # Each packet at once; short, for else the kernel keeps 8 of them at most; as root, whose directory it is.
        options = ["-w", str(self._file), "-U", "--immediate-mode", "-s", "128", "-Z", "root"]
        lab.start(["tcpdump", "-i", device.name, *options, "icmp or icmp6"], log="tcpdump", namespace=device.namespace)
        eventually(lambda: "listening on" in (lab.directory / "tcpdump").read_text(), within=PATIENCE)

    def round_trips(self, size: int, count: int) -> list[float]:
        """Seconds from each echo of `size` bytes to its reply; at least `count`, in the order of the replies."""
        return eventually(lambda: len(found := self._round_trips(size)) >= count and found, within=PATIENCE)

    def _round_trips(self, size: int) -> list[float]:
        asked: dict[Echo, float] = {}
        found = []
        with PcapReader(str(self._file)) as packets:
            for packet in packets:
                echo = _echo(packet)
                if echo is None or echo.size != size:
                    continue
                if packet.haslayer(ICMPv6EchoRequest) or (packet.haslayer(ICMP) and packet[ICMP].type == 8):
                    asked[echo] = float(packet.time)
                elif echo in asked:
                    found.append(float(packet.time) - asked.pop(echo))
        return found


def _echo(packet: Packet) -> Echo | None:
    for kind in (ICMP, ICMPv6EchoRequest, ICMPv6EchoReply):
        if packet.haslayer(kind):
            size = packet[IP].len if kind is ICMP else 40 + packet[IPv6].plen
            return Echo(packet[kind].id, packet[kind].seq, size)
    return None
