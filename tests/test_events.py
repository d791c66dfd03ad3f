"""What happened, as rows: which are kept, which become one, how they are written down and told, and to whom."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import WALL, key
from wg_exporter.cli.events.screen import Widths
from wg_exporter.cli.events.screen import line as line_of
from wg_exporter.events import (
    ALIKE,
    LATEST,
    LONGEST_LINE,
    MOST,
    MOST_OF,
    MOST_OF_PEER,
    NOT_STOPPED,
    Event,
    Kind,
    Level,
    Life,
    Process,
    event,
)
from wg_exporter.events.asked import Asked, AskedError, asked
from wg_exporter.events.book import Book, gathered
from wg_exporter.events.file import LONGEST_FILE, MOST_READ, decode, encode
from wg_exporter.events.told import OWNER, Audience, lines, told
from wg_exporter.events.words import sentence, what
from wg_exporter.quiet import is_plain

WG0 = ("", "wg0")
anything = st.text(max_size=40) | st.sampled_from(["<b>", "\x1b[2J", "a\nb", "\u202e", "\ud800", '"}', "`x`"])


def state(n=1, after="down", wall=WALL, **more):
    fields = {"before": "up", "reason": "one_way", "level": Level.WARN, "evidence": "3 initiations came from it"}
    return event(Kind.STATE, wall, WG0, public_key=key(n), name=f"peer {n}", after=after, **{**fields, **more})


def roamed(n=1, wall=WALL, before="192.0.2.1:5", after="192.0.2.9:6"):
    return event(Kind.ROAMING, wall, WG0, public_key=key(n), name=f"peer {n}", before=before, after=after)


def ended(wall=WALL):
    return event(
        Kind.PROCESS, wall, process=Process.PROBER, after=Life.FAILED, level=Level.ERROR, evidence="was killed"
    )


# --- which are kept ---------------------------------------------------------------------------------------------------


def test_the_last_thousand_are_kept_in_order_with_numbers_that_rise():
    book = Book()
    for n in range(MOST + 500):
        book.add([state(n % 77, wall=WALL + n)])
    assert len(book) == MOST
    assert [one.number for one in book.all] == list(range(501, MOST + 501))
    assert [one.time for one in book.all] == [WALL + n for n in range(500, MOST + 500)]
    assert book.last == MOST + 500


def test_the_order_is_that_in_which_they_came_also_where_the_clock_was_set_back():
    book = Book()
    book.add([state(1, wall=WALL)])
    book.add([state(2, wall=WALL - 86_400)])
    assert [one.name for one in book.all] == ["peer 1", "peer 2"]
    assert [one.name for one in Asked(since=WALL - 10).of(book.all)] == ["peer 1"]


def test_what_something_repeats_on_and_on_does_not_push_out_the_night():
    book = Book()
    book.add([state()])
    for _ in range(2000):
        book.add([roamed()])
        book.add([ended()])
        book.add([event(Kind.RELOAD, WALL, after="success")])
    kinds = [one.kind for one in book.all]
    assert kinds[0] is Kind.STATE
    assert {kind: kinds.count(kind) for kind in (Kind.ROAMING, Kind.PROCESS, Kind.RELOAD)} == {
        kind: MOST_OF[kind] for kind in (Kind.ROAMING, Kind.PROCESS, Kind.RELOAD)
    }
    assert [one.number for one in book.all] == sorted(one.number for one in book.all)
    assert kinds[-1] is Kind.RELOAD


def test_a_peer_that_goes_up_and_down_all_night_pushes_out_nobody_else():
    book = Book()
    book.add([state(2)])
    for n in range(3000):
        book.add([state(1, "down" if n % 2 else "up"), *([state(3 + n)] if n % 10 == 0 else [])])
    names = [one.name for one in book.all]
    assert len(names) == MOST
    assert names[0] == "peer 2"
    assert names.count("peer 1") == MOST - 301
    for n in range(499):
        book.add([state(4000 + n)])
    names = [one.name for one in book.all]
    assert (names[0], names.count("peer 1"), len(names)) == ("peer 2", MOST_OF_PEER, MOST)
    assert [one.number for one in book.all] == sorted(one.number for one in book.all)


def test_ten_thousand_peers_to_which_the_same_happened_are_one_event_that_names_the_first():
    book = Book()
    book.add([state(0, "up", before="down", reason="", evidence="")])
    (one,) = book.add([state(n, evidence=f"seen of {n}") for n in range(10_000)])
    assert (one.peers, one.public_key, one.number) == (10_000, "", 2)
    assert one.name.startswith("peer 0, peer 1, ")
    assert one.name.endswith(", peer 9 and 9,990 more")
    assert what(one) == "10,000 peers: down (was up): one_way"
    assert len(book) == 2


def test_few_stay_apart_and_so_do_others_of_the_same_look():
    several = [*(state(n) for n in range(ALIKE)), ended()]
    assert gathered(several) == several
    found = gathered([state(99, "degraded"), *(state(n) for n in range(ALIKE + 1)), ended(), state(7, reason="stale")])
    assert [(one.kind, one.peers) for one in found] == [
        (Kind.STATE, 0), (Kind.STATE, ALIKE + 1), (Kind.PROCESS, 0), (Kind.STATE, 0)
    ]  # fmt: skip


def test_peers_of_two_interfaces_and_those_that_are_quiet_are_not_one():
    rows = [state(n) for n in range(30)]
    rows += [event(Kind.STATE, WALL, ("", "wg1"), public_key=key(n), before="up", after="down") for n in range(30)]
    rows += [state(n, quiet=True, level=Level.INFO) for n in range(100, 130)]
    assert [(one.interface, one.quiet, one.peers) for one in gathered(rows)] == [
        ("wg0", False, 30), ("wg1", False, 30), ("wg0", True, 30)
    ]  # fmt: skip


def test_many_that_go_down_at_once_are_one_event_with_a_cause_only_if_all_have_it():
    some = [state(n, cause="silent", evidence="a") for n in range(64)]
    (one,) = gathered([*some, *(state(n) for n in range(64, 200))])
    assert (one.peers, one.cause) == (200, "")
    (one,) = gathered(some)
    assert (one.peers, one.cause) == (64, "silent")
    found = [event(Kind.CAUSE, WALL, WG0, public_key=key(n), cause=("silent", "mtu")[n % 2]) for n in range(60)]
    assert [(one.peers, one.cause) for one in gathered(found)] == [(30, "silent"), (30, "mtu")]


def test_many_that_roam_at_once_are_one_event_without_an_address():
    (one,) = gathered([roamed(n, after=f"192.0.2.{n}:1") for n in range(40)])
    assert (one.peers, one.before, one.after) == (40, "", "")
    assert what(one) == "40 peers: roamed"


def test_who_asks_for_what_came_after_a_number_gets_that_and_after_a_number_of_another_life_everything():
    book = Book()
    book.add([state(n) for n in range(5)])
    assert [one.number for one in book.after(3)] == [4, 5]
    assert book.after(5) == ()
    assert len(book.after(6)) == len(book.after(0)) == 5
    found = Book()
    found.restore(book.all)
    assert found.add([state()])[0].number == 6


# --- written down and read again --------------------------------------------------------------------------------------


def whole(*events):
    book = Book()
    book.add(events)
    return list(book.all)


EVERY = whole(
    state(),
    state(2, "down", before="down"),
    roamed(),
    ended(),
    event(
        Kind.CAUSE, WALL, WG0, public_key=key(1), name="b\u00fcro", cause="silent", confidence="likely", evidence="a"
    ),
    event(Kind.MTU, WALL, WG0, public_key=key(1), before="ok", after="blackhole", evidence="1420 bytes pass"),
    event(Kind.FAST, WALL, WG0, public_key=key(1), before="up", after="down", evidence="its interface is not there"),
    event(Kind.DRIFT, WALL, WG0, after="mtu 1", evidence="/etc/wireguard/wg0.conf"),
    event(Kind.QUIET, WALL, WG0, after="begun", until=WALL + 60, evidence="new router"),
    event(Kind.RELOAD, WALL, after="failure", evidence="config.yml:3: no such key", level=Level.ERROR),
)


def test_what_is_written_is_read_again():
    found = decode(encode(EVERY))
    assert found.events == EVERY
    assert (found.torn, found.bad) == (False, 0)


def test_what_says_nothing_about_an_event_is_left_out():
    assert set(json.loads(lines(whole(event(Kind.RELOAD, WALL, after="success"))))) == {
        "number", "time", "kind", "after", "text"
    }  # fmt: skip
    (one,) = told(whole(state()), Audience("off", None, private=False))
    found = set(json.loads(lines([one])))
    assert found.isdisjoint({"netns", "process", "cause", "confidence", "until", "quiet", "peers"})
    assert decode(encode([one])).events == [one]


def test_of_a_file_that_is_cut_anywhere_nothing_is_lost_but_the_line_of_the_cut():
    data = encode(EVERY)
    ends = [at + 1 for at, byte in enumerate(data) if byte == 0x0A]
    for cut in range(len(data)):
        found = decode(data[:cut])
        lost = cut not in ends and cut + 1 not in ends and cut > 0
        assert found.events == EVERY[: sum(end - 1 <= cut for end in ends)]
        assert (found.torn, found.bad) == (lost, 0), cut


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\0" * 100,
        b"\xff\xfe",
        b"{}",
        b"[" * 5000,
        b'{"number":1,"time":1,"kind":"state"}',  # its number is not above that before
        b'{"number":5,"time":1,"kind":"murder"}',
        b'{"number":5,"time":-1,"kind":"state"}',
        b'{"number":5,"time":1e30,"kind":"state"}',
        b'{"number":5,"time":9e11,"kind":"state"}',  # no calendar has a year of five digits
        b'{"number":5,"time":1,"kind":"quiet","after":"begun","until":9e11}',
        b'{"number":5,"time":1,"kind":"state","name":"a\\u001b[2J"}',
        b'{"number":5,"time":1,"kind":"state","name":"' + b"a" * 300 + b'"}',
        b'{"number":5,"time":1,"kind":"state","public_key":"nonsense"}',
        b'{"number":5,"time":1,"kind":"state","evidence":"' + b"a" * (LONGEST_LINE + 1) + b'"}',
    ],
)
def test_a_line_that_is_none_of_ours_is_left_out_and_the_others_count(line):
    (first,) = whole(state(1))
    last = Event(number=9, time=WALL, kind=Kind.RELOAD, after="success")
    found = decode(encode([first]) + line + b"\n" + encode([last]))
    assert found.events == [first, last]
    assert (found.torn, found.bad) == (False, 1)


@pytest.mark.parametrize("field", ["time", "until"])
def test_the_latest_time_that_is_read_can_be_told(field):
    row = {"number": 1, "time": WALL, "kind": "quiet", "after": "begun"} | {field: LATEST}
    (one,) = decode(json.dumps(row).encode()).events
    assert json.loads(lines([one]))[field] == LATEST
    assert line_of(one, Widths(), "utf-8")


def test_of_a_file_with_more_lines_than_we_write_the_last_ones_alone_are_looked_at():
    found = decode(b"\n" * (LONGEST_FILE - 1000) + encode(EVERY))
    assert found.events == EVERY
    assert found.bad <= MOST_READ


@given(
    st.binary(max_size=300) | st.lists(st.sampled_from([b"\n", b"{", b'"', *encode(EVERY).split(b"\n")])).map(b"".join)
)
def test_whatever_a_file_holds_what_is_read_is_in_order_and_plain(data):
    found = decode(data).events
    assert all(before.number < one.number for before, one in pairwise(found))
    assert all(is_plain(one.name + one.evidence + one.before + one.after + one.interface) for one in found)


@given(*[anything] * 5)
def test_whatever_it_is_made_of_an_event_is_read_as_it_was_written(interface, name, evidence, before, after):
    made = event(Kind.STATE, WALL, ("", interface), name=name, evidence=evidence, before=before, after=after)
    (one,) = whole(made)
    assert decode(encode([one])).events == [one]
    (line,) = lines([one]).decode("ascii").splitlines()
    assert json.loads(line)["text"] == sentence(one)
    assert is_plain(line)


# --- in words, and to whom --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (state(), "peer 1 on wg0: down (was up): one_way: 3 initiations came from it"),
        (state(before="", cause="silent"), "peer 1 on wg0: down: one_way, cause silent: 3 initiations came from it"),
        (state(after="up", before="down", reason="", evidence="heard"), "peer 1 on wg0: up (was down): heard"),
        (state(quiet=True, evidence=""), "peer 1 on wg0: down (was up): one_way (quiet)"),
        (event(Kind.REASON, WALL, WG0, public_key=key(1), before="down", after="down", reason="one_way"),
         f"{key(1)[:8]} on wg0: still down, now one_way"),
        (roamed(), "peer 1 on wg0: roamed to 192.0.2.9:6 (was 192.0.2.1:5)"),
        (ended(), "the prober failed: was killed"),
        (event(Kind.PROCESS, WALL, process=Process.READER, after=Life.RECOVERED), "the reader works again"),
        (event(Kind.PROCESS, WALL, process=Process.EXPORTER, after=Life.STARTED, reason=NOT_STOPPED, evidence="v 1"),
         "wg-exporter was started; the one before was not stopped: it was killed, or the host went down: v 1"),
        (EVERY[4], "b\u00fcro on wg0: cause silent (likely): a"),
        (EVERY[5], f"{key(1)[:8]} on wg0: MTU verdict blackhole (was ok): 1420 bytes pass"),
        (EVERY[6], f"{key(1)[:8]} on wg0: down by fast echoes (was up): its interface is not there"),
        (EVERY[7], "wg0: differs from /etc/wireguard/wg0.conf: mtu 1"),
        (event(Kind.DRIFT, WALL, ("blue", "wg0"), before="mtu 1", evidence="a.conf"),
         "wg0 in blue: as a.conf says again (was mtu 1)"),
        (EVERY[8], "wg0: quiet until 2023-11-14 22:14:20 UTC: new router"),
        (event(Kind.QUIET, WALL, WG0, public_key=key(1), name="berlin", after="ended", evidence="by hand"),
         "berlin on wg0: pages again: by hand"),
        (EVERY[9], "configuration not reloaded: config.yml:3: no such key"),
        (event(Kind.RELOAD, WALL, after="success"), "configuration reloaded"),
    ],
)  # fmt: skip
def test_each_is_a_sentence(one, said):
    assert sentence(one) == said


def test_the_owner_is_told_everything():
    assert list(told(EVERY, OWNER)) == EVERY


@pytest.mark.parametrize(
    ("wish", "before", "after"),
    [("full", "192.0.2.1:5", "[2001:db8::1]:6"), ("address", "192.0.2.1", "2001:db8::1"), ("off", "", "")],
)
def test_strangers_get_endpoints_as_the_metrics_have_them(wish, before, after):
    rows = [roamed(after="[2001:db8::1]:6")]
    (one,) = told(rows, Audience(wish, None, private=False))
    assert (one.before, one.after) == (before, after)
    said = lines([one]).decode()
    assert ("192.0.2.1" in said, ":5" in said) == (wish != "off", wish == "full")


def test_what_holds_addresses_or_was_never_told_to_strangers_is_left_out_for_them():
    by = {wish: {one.kind: one.evidence for one in told(EVERY, Audience(wish, None, private=False))} for wish in
          ("full", "address", "off")}  # fmt: skip
    assert {wish: bool(found[Kind.CAUSE]) for wish, found in by.items()} == {
        "full": True,
        "address": False,
        "off": False,
    }
    for found in by.values():
        assert (found[Kind.RELOAD], found[Kind.PROCESS]) == ("", "")
        assert found[Kind.STATE] == "3 initiations came from it"  # as the status document has it


def test_strangers_hear_nothing_of_interfaces_that_are_not_shown():
    rows = whole(state(), event(Kind.DRIFT, WALL, ("blue", "wg1"), after="mtu 1"), ended())
    shown = Audience("full", lambda netns, interface: (netns, interface) == ("blue", "wg1"), private=False)
    assert [one.kind for one in told(rows, shown)] == [Kind.DRIFT, Kind.PROCESS]


# --- asked for --------------------------------------------------------------------------------------------------------


def test_what_is_asked_for_is_a_time_a_number_and_how_many():
    rows = whole(*(state(n, wall=WALL + n) for n in range(9)))
    assert asked({}).of(rows) == rows
    assert asked({"since": f"{WALL + 6}", "other": "x"}).of(rows) == rows[6:]
    assert asked({"last": "2"}).of(rows) == rows[-2:]
    assert asked({"last": "0", "follow": "true"}) == Asked(last=0, follow=True)
    assert asked({"last": "0"}).of(rows) == []
    assert asked({"after": "7"}).after == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("since", "yesterday"), ("since", "-5"), ("since", "nan"), ("since", "1e9"), ("since", ""), ("since", "\u0661"),
        ("after", "-1"), ("after", "1.5"), ("after", "9" * 16), ("last", "1001"), ("last", "x"), ("follow", "yes"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_a_line_that_quotes_nothing(name, value):
    with pytest.raises(AskedError) as refused:
        asked({name: value})
    assert str(refused.value).startswith(f"{name} is ")
    assert not value or value not in str(refused.value)
