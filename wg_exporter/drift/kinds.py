"""What can differ between a file and a device, and the rows that say so."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """The kinds of differences; the label `kind` of `wireguard_config_drift`."""

    PEER_MISSING = "peer_missing"
    PEER_EXTRA = "peer_extra"
    ALLOWED_IPS = "allowed_ips"
    ENDPOINT = "endpoint"
    KEEPALIVE = "keepalive"
    PRESHARED_KEY = "preshared_key"
    PRIVATE_KEY = "private_key"
    LISTEN_PORT = "listen_port"
    FWMARK = "fwmark"
    MTU = "mtu"
    ADDRESS = "address"


OF_PEERS = frozenset(
    {Kind.PEER_MISSING, Kind.PEER_EXTRA, Kind.ALLOWED_IPS, Kind.ENDPOINT, Kind.KEEPALIVE, Kind.PRESHARED_KEY}
)

MEANINGS: dict[Kind, str] = {
    Kind.PEER_MISSING: "peers of the file that the device does not have",
    Kind.PEER_EXTRA: "peers of the device that the file does not have",
    Kind.ALLOWED_IPS: "peers whose allowed IPs differ",
    Kind.ENDPOINT: "peers whose endpoint is another than the file's",
    Kind.KEEPALIVE: "peers whose persistent keepalive differs",
    Kind.PRESHARED_KEY: "peers whose preshared key is set here alone, there alone, or another",
    Kind.PRIVATE_KEY: "1 if the private key of the device is another than the file's",
    Kind.LISTEN_PORT: "1 if the device listens on another port than the file says",
    Kind.FWMARK: "1 if the firewall mark is another than the file's",
    Kind.MTU: "1 if the MTU is another than the file's",
    Kind.ADDRESS: "addresses of the file that the interface does not have",
}


class Difference(NamedTuple):
    """One difference, of a peer or (no public key) of the device. `file` and `device` are what each says, as a value in
    a file is written; empty where it says nothing. Of secret keys only `set` and `another` are said.

    Of a peer that one side lacks the other side has its allowed IPs. `name` is what the file calls the peer.
    """

    kind: Kind
    public_key: str
    file: str
    device: str
    name: str = ""


class Drift(NamedTuple):
    """How a device differs from the file at `path`. `counts` has the number of differences of each kind that could be
    judged; `differences` are the first `compare.MOST` of them.

    `saved`: wg-quick writes the file itself (SaveConfig). `hooked`: commands in it change peers, so those are not
    judged. `others` are further files that describe the device and fit worse.
    """

    path: str
    counts: tuple[tuple[Kind, int], ...]
    differences: tuple[Difference, ...] = ()
    saved: bool = False
    hooked: bool = False
    others: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """The number of differences."""
        return sum(number for _, number in self.counts)
