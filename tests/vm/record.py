"""Record what a real kernel answers on netlink, for the tests of the decoders: `python -m tests.vm.record`.

For every case in tests/data/netlink: `NAME.bin.gz`, the datagrams as recv returned them, each behind its length (u32,
little endian); `NAME.dump.txt`, what `wg show all dump` (for links: `ip -s -s -d -j link`) said at the same moment; and
`NAME.json` with the interface, its index, the kernel and what is special. All keys are made here and belong to nobody.
"""

from __future__ import annotations

import gzip
import json
import os
import shlex
import shutil
import socket
import struct
import sys
from pathlib import Path

from tests.vm.guest.build import Keys, allowed_ips, device, handshake, peer, sh, tunnel
from tests.vm.guest.rawnetlink import DUMP_INTR, NETLINK_GENERIC, NETLINK_ROUTE, RTM_GETLINK, Netlink, headers
from tests.vm.harness import Vm

DATA = Path(__file__).resolve().parents[1] / "data" / "netlink"


def _build() -> None:
    """`small`: a peer with a handshake and traffic, one over IPv6 that never answers, one that is only known.
    `nokey`: nothing at all. `sixty`: peers over several messages. `wide`: 3,000 allowed IPs between two plain peers.
    """
    sh("modprobe wireguard; modprobe veth; ip link set lo up; ip addr add 2001:db8::1/64 dev lo")
    keys = Keys(7)
    silent = peer(keys(), "Endpoint = [2001:db8::2]:51821", "PersistentKeepalive = 25", "AllowedIPs = 10.9.1.0/24")
    handshake(tunnel("small", keys, more_peers=silent + peer(keys(), f"PresharedKey = {keys()}")))
    device("nokey", "[Interface]\n")
    sixty = [
        peer(
            keys(),
            f"Endpoint = 198.51.100.{n}:{1000 + n}",
            f"PersistentKeepalive = {n}",
            f"AllowedIPs = {allowed_ips(n, 1 + n % 40)}",
        )
        for n in range(60)
    ]
    device("sixty", f"[Interface]\nPrivateKey = {keys()}\n" + "".join(sixty))
    wide = [peer(keys(), f"AllowedIPs = {allowed_ips(n, 3000 if n == 1 else 1)}") for n in range(3)]
    device("wide", f"[Interface]\nPrivateKey = {keys()}\n" + "".join(wide))


def _record(out: Path) -> None:
    """In the guest: build the devices and write one recording after the other."""

    def save(name: str, datagrams: list[bytes], text: str = "", **more: object) -> None:
        flags = [flag for datagram in datagrams for _, flag in headers(datagram)]
        about = {
            "kernel": os.uname().release,
            "datagrams": len(datagrams),
            "dump_intr": any(flag & DUMP_INTR for flag in flags),
        }
        raw = b"".join(struct.pack("<I", len(d)) + d for d in datagrams)
        (out / f"{name}.bin.gz").write_bytes(gzip.compress(raw, mtime=0))
        (out / f"{name}.dump.txt").write_text(text)
        (out / f"{name}.json").write_text(json.dumps(about | more, indent=1) + "\n")

    _build()
    generic = Netlink(NETLINK_GENERIC)
    family = generic.family("wireguard")
    for name in ("small", "nokey", "sixty", "wide"):
        text, datagrams = _both(generic, family, name)
        save(name, datagrams, text, ifname=name, ifindex=socket.if_nametoindex(name), family=family)

    newcomer = Keys(8)()
    changed = generic.device(family, "wide", lambda n: sh(f"wg set wide peer {newcomer}") if n == 1 else None)
    save("interrupted", changed, ifname="wide", ifindex=socket.if_nametoindex("wide"), family=family)
    save("no_device", generic.device(family, "absent"), ifname="absent", family=family)
    save("no_permission", [_as_nobody(family)], ifname="small", family=family)
    links = Netlink(NETLINK_ROUTE).dump(RTM_GETLINK, struct.pack("BxHiII", 0, 0, 0, 0, 0))
    save("links", links, json.dumps(json.loads(sh("ip -s -s -d -j link")), indent=1) + "\n")


def _both(generic: Netlink, family: int, name: str) -> tuple[str, list[bytes]]:
    """What `wg` says and the raw answer, between two sayings that are the same: nothing moved while we looked."""
    while True:
        before, datagrams, after = sh("wg show all dump"), generic.device(family, name), sh("wg show all dump")
        if before == after:
            return "".join(f"{line}\n" for line in before.splitlines() if line.startswith(f"{name}\t")), datagrams


def _as_nobody(family: int) -> bytes:
    """The kernel's answer to a user without CAP_NET_ADMIN."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        os.write(send, b"".join(Netlink(NETLINK_GENERIC).device(family, "small")))
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(receive, 65536)


def main() -> None:
    """On the host: boot each kernel and keep what it recorded."""
    for series in sys.argv[1:] or ("6.1", "6.12"):
        with Vm(series) as vm:
            out = vm.shared / "recorded"
            out.mkdir()
            result = vm.run(f"{shlex.quote(sys.executable)} -m tests.vm.record --guest {shlex.quote(str(out))}")
            if result.rc != 0:
                sys.exit(str(result))
            DATA.mkdir(parents=True, exist_ok=True)
            for path in sorted(out.iterdir()):
                shutil.copy(path, DATA / f"linux-{series}-{path.name}")
            print(f"Linux {vm.kernel.release}: {len(list(out.glob('*.json')))} recordings in {DATA}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--guest"]:
        _record(Path(sys.argv[2]))
    else:
        main()
