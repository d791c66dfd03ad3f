"""The name of a tunnel: the same at both ends, other for every other pair of keys, and none where a key is missing."""

from __future__ import annotations

import base64

import pytest

from tests.rows import device, device_view, key, peer, view
from wg_exporter.exposition.fields import peers
from wg_exporter.exposition.parts import Keep
from wg_exporter.exposition.samples import metrics
from wg_exporter.exposition.writer import Writer
from wg_exporter.names.tunnel import tunnel_name

NO_KEY = base64.b64encode(bytes(32)).decode()


def test_both_ends_give_a_tunnel_the_same_name():
    assert tunnel_name(key(1), key(2)) == tunnel_name(key(2), key(1))


def test_the_name_is_what_the_documentation_says():
    """32 bytes of 1, then 32 of 2, through sha256sum."""
    one, two = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
    assert tunnel_name(two, one) == "f818afd37a6d"


def test_bytes_are_compared_and_not_their_base64():
    """In base64, `+` sorts before letters and stands for a high byte."""
    high, low = (base64.b64encode(bytes([n]) * 32).decode() for n in (0xFB, 0x01))
    assert high < low
    assert tunnel_name(high, low) == tunnel_name(low, high) == "0a56d9ef1b81"


def test_other_pairs_have_other_names():
    names = {tunnel_name(key(a), key(b)) for a in range(1, 60) for b in range(1, a)}
    assert len(names) == 59 * 58 // 2


@pytest.mark.parametrize("unknown", ["", NO_KEY, "key of wg0"])
def test_without_a_key_a_tunnel_has_no_name(unknown):
    assert tunnel_name(unknown, key(1)) == tunnel_name(key(1), unknown) == ""


def scraped(writer: Writer, own_key: str) -> str:
    shown = view(device_view(device(peer(1), public_key=own_key)))
    return b"".join(writer.write(metrics(shown), openmetrics=False)).decode()


def test_an_interface_with_a_new_key_has_new_tunnels_at_the_next_scrape():
    writer = Writer()
    before, after = (tunnel_name(own, key(1)) for own in (key(998), key(999)))
    assert f'tunnel="{before}"' in scraped(writer, key(998))
    page = scraped(writer, key(999))
    assert f'tunnel="{after}"' in page
    assert before not in page


def test_names_are_not_made_again_while_keys_stay_whatever_else_moves():
    keep = Keep()

    def names(rx_bytes: int) -> object:
        own_key = "".join(list(key(999)))  # each look at a device makes a string of its own
        row = device(peer(1, rx_bytes=rx_bytes), public_key=own_key)
        row = row._replace(peers=row.peers.sharing(BEFORE))
        (source,) = peers(view(device_view(row))).sources
        return source.rows(keep).who[2]

    assert names(5) is names(6)


BEFORE = device(peer(1)).peers
