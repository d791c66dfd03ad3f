"""What the prober's process is still to be told."""

from __future__ import annotations

from tests.probers import STATS, peer
from wg_exporter.messages.prober import PORTION, Counters, Peers
from wg_exporter.probed import Probed
from wg_exporter.remote.prober.pending import Pending


def told(pending: Pending) -> list[Peers | Counters]:
    """All that is to be told now."""
    messages = []
    while (message := pending.take()) is not None:
        messages.append(message)
    return messages


def test_only_peers_that_are_new_changed_or_gone_are_told():
    pending = Pending()
    assert pending.set_peers([peer(), peer(2)]) == []
    assert told(pending) == [Peers({1: peer(), 2: peer(2)}, ())]
    assert pending.set_peers([peer(2), peer(3), peer(interval=9.0)]) == []
    assert told(pending) == [Peers({3: peer(3), 1: peer(interval=9.0)}, ())]
    assert pending.set_peers([peer(2)]) == [peer().key, peer(3).key]
    assert told(pending) == [Peers({}, (1, 3))]
    assert (pending.key(1), pending.key(2)) == (None, peer(2).key)


def test_a_peer_that_is_gone_before_it_was_told_is_told_as_gone_alone():
    pending = Pending()
    pending.set_peers([peer()])
    pending.set_counters({peer().key: (1, 1)}, {})
    pending.set_peers([])
    assert told(pending) == [Peers({}, (1,))]


def test_a_peer_that_comes_back_is_another_one():
    pending = Pending()
    pending.set_peers([peer()])
    told(pending)
    pending.set_peers([])
    pending.set_peers([peer()])
    assert told(pending) == [Peers({2: peer()}, (1,))]


def test_byte_counters_are_told_when_they_moved_or_where_nothing_answers():
    pending, rows = Pending(), {peer(n).key: (n, n) for n in range(1, 5)}
    silent = STATS._replace(up=False)
    answers = {peer(n).key: Probed("t", stats, None) for n, stats in ((1, STATS), (2, STATS), (3, silent))}
    pending.set_peers([peer(n) for n in range(1, 4)])
    pending.set_counters(rows, answers)
    assert told(pending)[1:] == [Counters({n: (n, n) for n in range(1, 4)})]
    pending.set_counters(rows | {peer(2).key: (2, 9)}, answers)
    assert told(pending) == [Counters({2: (2, 9), 3: (3, 3)})]


def test_much_is_told_in_portions_and_a_new_process_is_told_all_of_it_again():
    pending = Pending()
    many = tuple(peer(n) for n in range(PORTION + 1))
    pending.set_peers(many)
    pending.set_counters({one.key: (1, 1) for one in many}, {})
    sizes = [len(message.put if isinstance(message, Peers) else message.rows) for message in told(pending)]
    assert sizes == [PORTION, 1, PORTION, 1]
    pending.set_peers(many[1:])
    pending.begin()
    numbers = range(2, PORTION + 2)
    assert told(pending) == [
        Peers(dict(zip(numbers, many[1:], strict=True)), ()),
        Counters(dict.fromkeys(numbers, (1, 1))),
    ]
