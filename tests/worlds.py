"""Devices that are changed step by step, to see whether what was kept of them is what would be made anew."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.rows import JUDGED, WALL, device, device_view, key, link, peer, view
from wg_exporter.accounted import Packets
from wg_exporter.health import GoneDevice
from wg_exporter.health.states import NOT_JUDGED, PeerHealth, Reason, State
from wg_exporter.history.counts import PeerCounts
from wg_exporter.hostnames import NO_NAME, EndpointName
from wg_exporter.model import Peers
from wg_exporter.names.identity import PeerMeta
from wg_exporter.quiet import Quiet, QuietNow

# Whatever can be in a name but a surrogate: the sources and the configuration let none in.
names = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\\n{},= #'), min_size=1, max_size=8)
numbers = st.integers(0, 2**64 - 1)
peer_changes = st.one_of(
    st.fixed_dictionaries({"rx_bytes": numbers}),
    st.fixed_dictionaries({"tx_bytes": numbers, "last_handshake_ns": numbers}),
    st.fixed_dictionaries({"endpoint": st.sampled_from(["", "192.0.2.9:1", "[2001:db8::9]:51820"])}),
    st.fixed_dictionaries({"allowed_ips": st.integers(0, 18).map(lambda n: tuple(f"10.9.0.{i}/32" for i in range(n)))}),
    st.fixed_dictionaries({"persistent_keepalive": st.sampled_from([0, 25])}),
    st.just({}),  # an equal row, but another object
)
judgements = st.builds(
    PeerHealth,
    st.sampled_from([None, *State]),
    st.sampled_from([None, *Reason]),
    numbers,
    st.floats(0, 1e9),
    st.sampled_from([0.0, WALL]),
)
lookups = st.builds(
    EndpointName,
    st.sampled_from(["", 'vpn."x".example:1']),
    st.sampled_from([(), ("192.0.2.9:1",), tuple(f"192.0.2.{n}:1" for n in range(6))]),
    mismatch=st.sampled_from([None, False, True]),
    resolved=st.sampled_from([None, False, True]),
    reresolved=st.none() | numbers,
)
devices = st.integers(0, 2)
places = st.integers(0, 5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("come"), devices, places, st.integers(1, 9)),
        st.tuples(st.just("go"), devices, places, st.none()),
        st.tuples(st.just("trade"), devices, places, places),
        st.tuples(st.just("change"), devices, places, peer_changes),
        st.tuples(st.just("count"), devices, places, st.builds(PeerCounts, numbers, numbers)),
        st.tuples(st.just("call"), devices, places, st.builds(PeerMeta, names, st.booleans(), st.booleans())),
        st.tuples(st.just("judge"), devices, places, judgements),
        st.tuples(st.just("resolve"), devices, places, lookups),
        st.tuples(st.just("packets"), devices, places, st.none() | st.tuples(numbers, numbers)),
        st.tuples(st.just("quiet"), devices, st.none(), st.integers(0, 9)),
        st.tuples(st.just("vanish"), devices, st.none(), st.none()),
        st.tuples(st.just("device gone"), devices, st.none(), st.none()),
        st.tuples(st.just("share"), devices, st.none(), st.booleans()),
        st.tuples(st.just("endpoints"), st.none(), st.none(), st.sampled_from(["full", "address", "off"])),
        st.tuples(st.just("nothing"), st.none(), st.none(), st.none()),
    ),
    min_size=1,
    max_size=25,
)

PLACES = (("", "wg0"), ("", "wg1"), ("blue", "wg0"))


ANNA, NONE = PeerMeta("anna", True, True), PeerCounts()


def row(n):
    """A peer that shares its other rows with its likes, as far as they can be shared."""
    return peer(n), ANNA if n % 3 else PeerMeta(f"peer {n}", True, False), NONE, JUDGED if n % 2 else NOT_JUDGED


class World:
    """Three places for devices, changed step by step; where it shares, what didn't change stays the same object."""

    def __init__(self):
        self.rows = [[row(1), row(2), row(3)], [row(2)], []]
        self.shares = [True, False, True]
        self.kept = [Peers(), Peers(), Peers()]
        self.endpoints = "full"
        self.gone = set()
        self.quiet = QuietNow()
        self.lookups = {}  # by place and public key
        self.packets = [{}, {}, {}]  # by public key; of a place without any nobody counts them
        self.counted = [None, None, None]

    def step(self, what, where, at, value):
        rows = [] if where is None else self.rows[where]
        at = at % len(rows) if rows and at is not None else None
        if what == "come" and all(other[0].public_key != key(value) for other in rows):
            rows.insert(at or 0, row(value))
        elif what == "device gone":
            rows.clear()
        elif what == "vanish":
            self.gone ^= {where}
        elif what == "quiet":  # a peer, there or not, or with 0 the interface: begun if it is not, else ended
            self.toggle_quiet(where, value)
        elif what == "share":
            self.shares[where] = value
        elif what == "endpoints":
            self.endpoints = value
        elif at is not None:
            known, meta, counts, health = rows[at]
            if what == "go":
                del rows[at]
            elif what == "trade":
                other = value % len(rows)
                rows[at], rows[other] = rows[other], rows[at]
            elif what == "change":
                rows[at] = (known._replace(**value), meta, counts, health)
            elif what == "count":
                rows[at] = (known, meta, value, health)
            elif what == "call":
                rows[at] = (known, value, counts, health)
            elif what == "resolve":
                self.lookups[where, known.public_key] = value
            elif what == "packets" and value is None:
                self.packets[where].clear()
            elif what == "packets":
                self.packets[where][known.public_key] = value
            elif what == "judge":
                rows[at] = (known, meta, counts, value)

    def toggle_quiet(self, where, n):
        one = Quiet(*PLACES[where], key(n) if n else "", f"was {n}" if n else "", WALL, WALL + 60, "")
        others = [known for known in self.quiet.all if known.key != one.key]
        self.quiet = QuietNow(others if len(others) < len(self.quiet.all) else [*others, one])

    def packets_of(self, index, peers):
        if not self.packets[index]:
            return None
        received, sent = zip(*(self.packets[index].get(p.public_key, (0, 0)) for p in peers), strict=True)
        self.counted[index] = Packets(1, received, sent).sharing(self.counted[index] if self.shares[index] else None)
        return self.counted[index]

    def view(self):
        found, gone = [], []
        for index, (netns, name) in enumerate(PLACES):
            if self.rows[index]:
                peers, metas, counts, health = zip(*self.rows[index], strict=True)
                if index in self.gone:
                    gone.append(GoneDevice(netns, name, tuple(p.public_key for p in peers), metas, health))
                    continue
                self.kept[index] = Peers.of(peers, self.kept[index] if self.shares[index] else None)
                packets = self.packets_of(index, peers)
                read = device(netns=netns, name=name, peers=self.kept[index], packets=packets)
                seen = device_view(read, metas, counts, link(name, netns=netns), health)
                lookups = tuple(self.lookups.get((index, p.public_key), NO_NAME) for p in peers)
                named = any(lookup is not NO_NAME for lookup in lookups)
                found.append(seen._replace(host_names=lookups) if named else seen)
        return view(*found, endpoints=self.endpoints, gone=tuple(gone), quiet=self.quiet)
