"""Which entries of the kernel's trie a look changes, and which peer counts where."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.rows import peer
from wg_exporter.model import Peers
from wg_exporter.reader.accounting.slots import NO_CHANGES, SLOT, Slots, key

ADDRESSES = st.sampled_from([
    "10.0.0.0/8", "10.1.0.0/16", "10.1.0.1/32", "10.1.0.2/32", "0.0.0.0/0", "::/0", "fd00::/8", "fd00::1/128",
])  # fmt: skip
HOSTS = st.lists(
    st.dictionaries(st.integers(1, 12), st.lists(ADDRESSES, max_size=3, unique=True), max_size=8), max_size=12
)


def peers(*owned: tuple[int, tuple[str, ...]]) -> Peers:
    return Peers.of(peer(number, allowed_ips=ips) for number, ips in owned)


def test_a_look_that_shows_nothing_new_changes_nothing():
    slots, rows = Slots(), peers((1, ("10.0.0.1/32",)))
    assert slots.follow(rows, 8).put
    assert slots.follow(rows, 8) is NO_CHANGES
    assert slots.follow(peers((1, ("10.0.0.1/32",))), 8) is NO_CHANGES, "equal, though other objects"


def test_only_what_moved_is_written_and_a_prefix_that_moves_is_never_without_an_owner():
    slots = Slots()
    slots.follow(peers((1, ("10.0.0.1/32", "10.0.0.3/32")), (2, ("10.0.0.2/32",))), 8)
    changes = slots.follow(peers((1, ("10.0.0.1/32",)), (2, ("10.0.0.2/32", "10.0.0.3/32"))), 8)
    assert changes == ((((key("10.0.0.3/32")), SLOT.pack(1)),), (), ())


def test_a_prefix_has_one_key_however_it_is_written():
    assert key("10.1.2.3/8") == key("10.0.0.0/8") != key("10.0.0.0/9")
    assert key("::1/128") == key("0:0::0:1/128")
    assert key("0.0.0.0/0") != key("::/0")


def test_a_prefix_that_two_peers_seem_to_have_stays_when_one_of_them_goes():
    """As in a list that was read while it moved."""
    slots = Slots()
    slots.follow(peers((1, ("10.0.0.1/32",)), (2, ("10.0.0.1/32",))), 8)
    changes = slots.follow(peers((1, ("10.0.0.1/32",)), (2, ())), 8)
    assert changes == (((key("10.0.0.1/32"), SLOT.pack(0)),), (), ())


@given(HOSTS, st.integers(0, 8))
def test_the_trie_is_what_the_last_look_says_and_no_two_peers_share_a_slot(looks, room):
    slots, trie, held = Slots(), {}, {}
    for look in looks:
        rows = peers(*((number, tuple(ips)) for number, ips in look.items()))
        changes = slots.follow(rows, room)
        trie |= changes.put
        for one in changes.out:
            del trie[one]
        owner = {
            key(ip): SLOT.pack(slot) for slot, row in zip(slots.of_peers, rows, strict=True) for ip in row.allowed_ips
        }
        assert trie == owner
        assert len(set(slots.of_peers)) == len(rows)
        assert all(slot < slots.used for slot in slots.of_peers)
        for row, slot in zip(rows, slots.of_peers, strict=True):
            before = held.get(slot)
            assert before in (None, row.public_key) or slot in changes.renewed, "what another had is taken off"
            held[slot] = row.public_key
        assert not changes.renewed or slots.used > room - len(rows), "only for want of room"
