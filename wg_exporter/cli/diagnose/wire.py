"""The handshake messages themselves, for whoever wants to see them: for the file of `--pcap`, and for `--packets`.

Outer packets pass the filter of the watcher: messages of handshakes, and ICMP errors that quote a datagram of ours. So
no data of users gets here. Inner packets and outer pings are kept only if they carry the token of one of our probes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.cli.frames import ICMP, ICMPV6, Fragments, token_of
from wg_exporter.cli.pcap import Capture
from wg_exporter.prober.watcher import filters
from wg_exporter.prober.wire import bpf
from wg_exporter.prober.wire.bpf import Step

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.cli.pcap import Caught
    from wg_exporter.prober.mtu.probes import Layer
    from wg_exporter.prober.wire.sockets import Opener

MOST_SHOWN = 200  # packets that are kept for `--packets`
UDP = 17


def echo_filter() -> bytes:
    """A filter in classic BPF: ICMP and ICMPv6. Packets begin with their IP header."""
    return bpf.assemble(
        Step(bpf.LOAD_BYTE, 0),
        Step(bpf.AND, 0xF0),
        Step(bpf.IF_EQUAL, 0x40, then="IPv4"),
        Step(bpf.IF_EQUAL, 0x60, otherwise="drop"),
        Step(bpf.LOAD_BYTE, 6),
        Step(bpf.IF_EQUAL, 44, then="pass"),
        Step(bpf.IF_EQUAL, ICMPV6, then="pass", otherwise="drop"),
        "IPv4",
        Step(bpf.LOAD_BYTE, 9),
        Step(bpf.IF_EQUAL, ICMP, then="pass", otherwise="drop"),
    )


class Wire:
    """Listens from the beginning to `close`. `drain` it many times a second."""

    def __init__(self, path: Path | None, open_socket: Opener) -> None:
        """With a path, write a file. Raises CaptureError."""
        self._messages = Capture(path, open_socket)
        self._echoes: Capture | None = Capture(None, open_socket) if path else None
        self._fragments = Fragments()
        self._tokens: set[int] = set()
        self.shown: list[Caught] = []
        """Handshake messages and errors about them, the first `MOST_SHOWN`."""

    def listen(self, netns: str, interface: str, underlay: str, port: int) -> None:
        """Listen to a device. Raises CaptureError."""
        self._messages.listen(underlay, (), filters.watch({port}))
        if self._echoes is not None:
            self._echoes.listen(netns, {interface}, echo_filter())
            if underlay != netns:
                self._echoes.listen(underlay, (), echo_filter())

    def tap(self, direction: str, netns: str, layer: Layer, packet: bytes, when: float) -> None:  # noqa: ARG002
        """Take a probe that was sent or received, to know it again."""
        token = token_of(packet) if direction == "sent" else None
        if token is not None:
            self._tokens.add(token)

    def drain(self) -> None:
        """Take what has come since the last call. Raises CaptureError."""
        caught = self._messages.caught()
        self.shown += caught[: MOST_SHOWN - len(self.shown)]
        if self._echoes is not None:
            caught += [one for one in self._echoes.caught() if self._fragments.belong(one.data, self._ours)]
        for one in sorted(caught):
            self._messages.write(one)

    @property
    def dropped(self) -> int:
        """How many packets were lost as nobody read them in time, once it is closed."""
        return self._messages.dropped + (self._echoes.dropped if self._echoes else 0)

    def close(self) -> None:
        """Finish the file. Raises CaptureError where the disk is full."""
        if self._echoes is not None:
            self._echoes.close()
        self._messages.close()

    def _ours(self, token: int) -> bool:
        return token in self._tokens
