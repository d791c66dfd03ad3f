"""Build kernel WireGuard devices inside the guest, with `ip` and `wg`, the tools that everyone trusts."""

from __future__ import annotations

import base64
import random
import socket
import subprocess
import time
from typing import NamedTuple


def sh(command: str, stdin: str = "") -> str:
    """Run a shell command that must succeed; what it printed."""
    return subprocess.run(["sh", "-ec", command], input=stdin, check=True, stdout=subprocess.PIPE, text=True).stdout


class Keys:
    """Keys that look random and are the same in every run. Any 32 bytes will do for a key."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self) -> str:
        return base64.b64encode(self._random.randbytes(32)).decode()


def public(private_key: str) -> str:
    """The public key of a private one, base64 both."""
    return sh("wg pubkey", private_key).strip()


def peer(key: str, *lines: str) -> str:
    """A [Peer] section."""
    return "\n".join(["[Peer]", f"PublicKey = {key}", *lines, ""])


def device(name: str, conf: str, netns: str = "") -> None:
    """A new kernel device, configured and up, in a named network namespace if one is given."""
    inside = f"ip netns exec {netns} " if netns else ""
    sh(f"{inside}ip link add {name} type wireguard")
    sh(f"{inside}wg setconf {name} /dev/stdin", conf)
    sh(f"{inside}ip link set {name} up")


def allowed_ips(number: int, count: int) -> str:
    """`count` different allowed IPs for the peer of this number, half of them IPv4."""
    high, low = divmod(number, 256)
    v4 = [f"{10 + high}.{low}.{n // 256}.{n % 256}/32" for n in range((count + 1) // 2)]
    return ", ".join(v4 + [f"fd00:{number:x}::{n:x}/128" for n in range(count // 2)])


class Tunnel(NamedTuple):
    """A working tunnel from `near` in this namespace to `far1` in the namespace `far`, with every secret it holds."""

    near: str
    far_key: str
    near_key: str
    secrets: tuple[str, ...]


def tunnel(near: str, keys: Keys, far: str = "far", more_peers: str = "") -> Tunnel:
    """Two namespaces, a veth pair with TEST-NET addresses, a device at each end. No handshake has happened yet."""
    private_near, private_far, preshared = keys(), keys(), keys()
    sh(f"ip netns add {far}; ip link add near0 type veth peer name far0 netns {far}")
    sh("ip addr add 192.0.2.1/24 dev near0; ip link set near0 up")
    sh(f"ip -n {far} link set lo up; ip -n {far} addr add 192.0.2.2/24 dev far0; ip -n {far} link set far0 up")
    to_far = peer(
        public(private_far),
        f"PresharedKey = {preshared}",
        "Endpoint = 192.0.2.2:51821",
        "AllowedIPs = 10.9.0.2/32, fd00:9::2/128",
    )
    to_near = peer(public(private_near), f"PresharedKey = {preshared}", "AllowedIPs = 10.9.0.1/32")
    interface = f"[Interface]\nPrivateKey = {private_near}\nListenPort = 51820\nFwMark = 0xca6c\n"
    device(near, interface + to_far + more_peers)
    device("far1", f"[Interface]\nPrivateKey = {private_far}\nListenPort = 51821\n" + to_near, far)
    sh(f"ip addr add 10.9.0.1/24 dev {near}; ip -n {far} addr add 10.9.0.2/24 dev far1")
    return Tunnel(near, public(private_far), public(private_near), (private_near, private_far, preshared))


def handshake(made: Tunnel) -> None:
    """Send datagrams into the tunnel until there is a handshake. The far side answers each with an ICMP error."""
    deadline = time.monotonic() + 120
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        while time.monotonic() < deadline:
            s.sendto(b"x" * 100, ("10.9.0.2", 9))
            time.sleep(0.3)
            stamps = dict(line.split() for line in sh(f"wg show {made.near} latest-handshakes").splitlines())
            if stamps[made.far_key] != "0":
                return
    raise TimeoutError(f"no handshake on {made.near} within 120 s")
