"""Samples to bytes: both formats, read by parsers; the fast way of peers against the slow one, whatever moves."""

from __future__ import annotations

import gc
import re
import tracemalloc
from collections import Counter

import pytest
from hypothesis import example, given, settings

from tests.rows import FACTS, JUDGED, WALL, device, device_view, flat, key, link, parsed, peer, probed, view
from tests.worlds import World, steps
from wg_exporter.accounted import Packets
from wg_exporter.catalogue import METRICS, PEER_EXPECTED_UP
from wg_exporter.causes.cause import Cause, Confidence, Finding
from wg_exporter.drift.kinds import Drift
from wg_exporter.drift.kinds import Kind as DriftKind
from wg_exporter.exposition.parts import Sample
from wg_exporter.exposition.samples import metrics, samples
from wg_exporter.exposition.table import BLOCK
from wg_exporter.exposition.text import escape, header, label_block, number
from wg_exporter.exposition.writer import Writer, everything, render
from wg_exporter.health.states import Reason, State
from wg_exporter.history.counts import PeerCounts
from wg_exporter.hostnames import EndpointName
from wg_exporter.metric import Kind, Metric, Scope
from wg_exporter.names.identity import PeerMeta
from wg_exporter.probed import FastFound
from wg_exporter.quiet import Quiet, QuietNow


def slow(shown, included=everything, *, openmetrics=False):
    """The same exposition without anything kept: every sample rendered from scratch."""
    body = b"".join(render(samples(shown), included, openmetrics=openmetrics))
    return body + b"# EOF\n" if openmetrics else body


def written(shown, writer=None, *, openmetrics=False):
    return b"".join((writer or Writer()).write(metrics(shown), openmetrics=openmetrics))


def check(shown, writer):
    """What the parsers read from both formats are the samples."""
    for openmetrics in (False, True):
        chunks = writer.write(metrics(shown), openmetrics=openmetrics)
        read = parsed(chunks, openmetrics=openmetrics)
        assert len(set(read)) == len(read)
        assert Counter(read) == Counter(flat(samples(shown)))


MOVED = EndpointName("vpn.example.org:51820", ("192.0.2.9:51820",), WALL, mismatch=True, resolved=True, reresolved=2)


# --- the fast way and the slow one ------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(steps)
@example([("come", 0, 0, 1), ("come", 0, 0, 2), ("call", 0, 0, PeerMeta('a"\\\n', True, True)), ("trade", 0, 0, 1)])
@example([("come", 0, 0, 1), ("change", 0, 0, {"rx_bytes": 5}), ("device gone", 0, None, None), ("come", 0, 0, 1)])
def test_the_writer_says_what_the_samples_say_whatever_changes_in_whatever_order(sequence):
    world, writer = World(), Writer()
    for index, step in enumerate(sequence):
        world.step(*step)
        openmetrics = bool(index % 2)
        assert written(world.view(), writer, openmetrics=openmetrics) == slow(world.view(), openmetrics=openmetrics)
    check(world.view(), writer)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_a_writer_that_looks_only_now_and_then_sees_all_that_changed_in_between(sequence):
    world, writer = World(), Writer()
    for index, step in enumerate(sequence):
        world.step(*step)
        if index % 3 == 0:
            written(world.view(), writer)
    check(world.view(), writer)


@pytest.mark.parametrize(
    ("what", "value"),
    [
        *(("change", {field: value}) for field, value in (("rx_bytes", 7), ("tx_bytes", 7), ("last_handshake_ns", 7))),
        *(("change", {field: value}) for field, value in (("endpoint", "x:1"), ("allowed_ips", ("::/0",)))),
        ("change", {"persistent_keepalive": 0}),
        ("count", PeerCounts(1, 0)),
        ("count", PeerCounts(0, 1)),
        ("call", PeerMeta("new", True, True)),
        ("call", PeerMeta("anna", True, False)),
        ("trade", 0),
        ("judge", JUDGED._replace(state=State.DEGRADED)),
        ("judge", JUDGED._replace(reason=Reason.LOSSY)),
        ("judge", JUDGED._replace(changes=4)),
        ("judge", JUDGED._replace(down_seconds=0.5)),
        ("judge", JUDGED._replace(changed_at=0.0)),
        ("resolve", MOVED),
        ("resolve", EndpointName("x:1", mismatch=False)),
        ("resolve", EndpointName("x:1", resolved=False)),
        ("resolve", EndpointName("x:1", reresolved=0)),
        ("packets", (5, 6)),
        ("vanish", None),
        ("go", None),
        ("come", 4),
    ],
)
def test_whatever_changes_alone_changes_in_the_body(what, value):
    world, writer = World(), Writer()
    before = written(world.view(), writer)
    world.step(what, 0, 1, value)
    assert written(world.view(), writer) == slow(world.view()) != before


def test_a_peer_that_moves_in_one_of_several_blocks_moves_in_the_body():
    rows = [peer(n) for n in range(2 * BLOCK + 3)]
    metric = "wireguard_peer_receive_bytes_total"
    writer = Writer(lambda name: name == metric)
    for index in (0, BLOCK - 1, BLOCK, 2 * BLOCK, len(rows) - 1):
        rows[index] = rows[index]._replace(rx_bytes=10**9 + index)
        lines = written(view(device_view(device(*rows))), writer).decode().splitlines()[2:]
        assert [int(line.rpartition(" ")[2]) for line in lines] == [row.rx_bytes for row in rows]
        assert all(line.startswith(metric) for line in lines)


def test_what_did_not_move_is_not_rendered_again():
    """For 10,000 peers, that is what a scrape costs."""
    asked = []

    class Counted(int):
        def __repr__(self):
            asked.append(self)
            return int.__repr__(self)

    rows = [peer(n, tx_bytes=Counted(n)) for n in range(50)]
    metas, counts = [tuple(f(*a) for _ in rows) for f, a in ((PeerMeta, ("x", True, True)), (PeerCounts, ()))]
    writer = Writer()
    written(view(device_view(device(*rows), metas, counts)), writer)
    first = len(asked)
    for _ in range(3):
        written(view(device_view(device(*rows), metas, counts)), writer)
        written(view(device_view(device(*rows), metas, counts)), writer, openmetrics=True)
    rows[7] = rows[7]._replace(rx_bytes=5)
    assert f'public_key="{key(7)}",peer="x"}} 5\n'.encode() in written(
        view(device_view(device(*rows), metas, counts)), writer
    )
    assert first == len(asked) == 50, "only what differs is rendered, even of a peer that moved"


def test_a_block_in_which_nothing_moved_is_the_very_object_of_last_time():
    """So it is not compressed again."""
    rows = [peer(n) for n in range(BLOCK + 1)]
    writer = Writer()
    first = writer.write(metrics(view(device_view(device(*rows)))), openmetrics=False)
    again = writer.write(metrics(view(device_view(device(*rows)))), openmetrics=True)
    large = [chunk for chunk in first if len(chunk) > 10_000]
    assert len(large) > 10
    assert {*map(id, large)} <= {*map(id, again)}
    rows[0] = rows[0]._replace(rx_bytes=7)
    later = writer.write(metrics(view(device_view(device(*rows)))), openmetrics=False)
    assert len({*map(id, large)} - {*map(id, later)}) == 1


# --- the two formats --------------------------------------------------------------------------------------------------

# The one whose MTU is known is not down: of those that are, sizes are not told.
BUSY = view(
    device_view(device(peer(1), peer(2)), at=link(), health=(JUDGED, JUDGED._replace(state=State.DEGRADED)))._replace(
        host_names=(MOVED, EndpointName())
    ),
    device_view(device(peer(1), netns="blue", packets=Packets(1, (5,), (6,))), at=link(netns="blue")),
    missing=(("", "wg9"),),
    probes={("", "wg0"): {key(2): probed()}, ("blue", "wg0"): {key(1): probed()}},
    scheduling_delay=0.002,
    causes={("", "wg0"): {key(1): Finding(Cause.MTU, Confidence.CERTAIN)}},
    drifts={("", "wg0"): Drift("/etc/wireguard/wg0.conf", ((DriftKind.MTU, 1), (DriftKind.ADDRESS, 0)))},
    fast={("", "wg0"): {key(1): FastFound("10.0.0.1", True)}},
    quiet=QuietNow(
        [Quiet("", "wg0", "", "", WALL, WALL + 60, ""), Quiet("blue", "wg0", key(1), "1", WALL, WALL + 60, "")]
    ),
)


def family(metric, name):
    """Whether a sample of this name is one of the family of `metric`."""
    suffixes = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
    return name in [metric.name + suffix for suffix in suffixes]


def families(samples):
    """The metrics that these parsed samples belong to."""
    return {next(metric for metric in METRICS if family(metric, name)) for name, _, _ in samples}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_each_family_is_one_piece_under_one_header_and_no_series_is_there_twice(openmetrics):
    current, heads, series = None, [], []
    for line in written(BUSY, openmetrics=openmetrics).decode().splitlines():
        if line.startswith("# HELP "):
            current = line.split()[2]
            heads.append(current)
        elif line.startswith("# "):
            assert line == "# EOF" or line.split()[2] == current
        else:
            name = re.match(r"[a-z_]+", line)[0]
            metric = next(metric for metric in METRICS if family(metric, name))
            assert current == (metric.family if openmetrics else metric.name)
            series.append(line.rpartition(" ")[0])
    assert len(heads) == len(set(heads)) == len(METRICS)
    assert len(series) == len(set(series))


def test_metadata_in_the_text_format_names_the_counter_in_full():
    body = written(BUSY).decode()
    for metric in METRICS:
        assert f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n{metric.name}" in body
    assert "# UNIT" not in body
    assert "# EOF" not in body


def test_metadata_in_openmetrics_names_the_family_and_its_unit_and_the_end_is_marked():
    body = written(BUSY, openmetrics=True).decode()
    for metric in METRICS:
        unit = f"# UNIT {metric.family} {metric.unit}\n" if metric.unit else ""
        assert (
            f"# HELP {metric.family} {metric.help}\n# TYPE {metric.family} {metric.kind}\n{unit}{metric.name}" in body
        )
    assert body.endswith("\n# EOF\n")
    assert body.count("# EOF") == 1


def test_a_family_without_a_sample_leaves_no_header_behind():
    for openmetrics in (False, True):
        body = written(view(device_view(device())), openmetrics=openmetrics)
        assert b"wireguard_peer_" not in body
        assert b"wireguard_interface_up" not in body
        assert b"wireguard_interface_peers" in body


def test_help_is_escaped_as_each_format_wants_it():
    metric = Metric("x", Kind.GAUGE, Scope.PEER, (), 'back\\slash "quoted"\nnext')
    assert header(metric, openmetrics=False) == b'# HELP x back\\\\slash "quoted"\\nnext\n# TYPE x gauge\n'
    assert header(metric, openmetrics=True) == b'# HELP x back\\\\slash \\"quoted\\"\\nnext\n# TYPE x gauge\n'


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("plain, {spaced} = # 'x'", "plain, {spaced} = # 'x'"),
        ('a"b', 'a\\"b'),
        ("a\\b", "a\\\\b"),
        ("a\nb", "a\\nb"),
        ('\\"\n', '\\\\\\"\\n'),
        ("\\n", "\\\\n"),
        ("Zoë 🦊\t\r", "Zoë 🦊\t\r"),
    ],
)
def test_a_label_value_is_escaped_and_reads_back_as_it_was(value, escaped):
    assert escape(value) == escaped
    shown = view(device_view(device(peer(1)), (PeerMeta(value, True, True),)))
    for openmetrics in (False, True):
        chunks = Writer().write(metrics(shown), openmetrics=openmetrics)
        assert {
            dict(labels)["peer"] for _, labels, _ in parsed(chunks, openmetrics=openmetrics) if dict(labels).get("peer")
        } == {value}


def test_a_name_that_is_not_unicode_costs_its_own_characters_and_not_the_scrape():
    """No source lets a lone surrogate in; should one ever, a scrape that fails would be the worst way to say so."""
    row = device_view(device(peer(1), name="wg\udcff"), (PeerMeta("a\ud800", True, True),), at=link("wg\udcff"))
    for openmetrics in (False, True):
        body = written(view(row), openmetrics=openmetrics).decode()
        assert 'wireguard_interface_up{interface="wg?"} 1\n' in body
        assert f'wireguard_peer_allowed_ips{{interface="wg?",public_key="{key(1)}",peer="a?"}} 1\n' in body


def test_labels_keep_their_order_with_netns_last_and_no_braces_without_any():
    assert label_block(()) == ""
    assert label_block((("b", "1"), ("a", "2"))) == '{b="1",a="2"}'
    line = f'wireguard_peer_expected_up{{interface="wg0",public_key="{key(1)}",peer="{key(1)[:8]}",netns="blue"}} 0\n'
    assert line.encode() in written(BUSY)
    assert b"\nwireguard_exporter_devices 2\n" in written(BUSY)


@pytest.mark.parametrize("value", [0, 2**64 - 1, 10**15 + 0.25, WALL + 0.123456, 1e-09])
def test_numbers_lose_nothing(value):
    assert (int if isinstance(value, int) else float)(number(value)) == value
    assert not re.search("[eE.]", number(value)) or isinstance(value, float)


def test_a_handshake_time_is_good_to_the_microsecond():
    row = peer(1, last_handshake_ns=1_763_841_234_123_456_789)
    assert b"} 1763841234.1234567" in written(view(device_view(device(row))))


# --- what is left out, and what is added ------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_any_family_can_be_left_out_and_all_others_stay(metric):
    writer = Writer(lambda name: name != metric.name)
    for _ in range(2):
        found = families(parsed(writer.write(metrics(BUSY), openmetrics=True), openmetrics=True))
        assert found == set(METRICS) - {metric}


def test_with_families_left_out_changes_still_show_up_in_the_others():
    def included(name):
        return name not in ("wireguard_peer_info", "wireguard_peer_transmit_bytes_total")

    world, writer = World(), Writer(included)
    for step in (
        ("come", 0, 0, 1),
        ("change", 0, 0, {"rx_bytes": 7, "tx_bytes": 8, "endpoint": "x:1"}),
        ("call", 0, 0, PeerMeta("new", True, True)),
        ("count", 0, 0, PeerCounts(1, 1)),
    ):
        world.step(*step)
        assert written(world.view(), writer) == slow(world.view(), included)


def test_families_of_others_come_last_and_can_be_left_out_too():
    extra = [Sample(Metric("process_cpu_seconds_total", Kind.COUNTER, Scope.EXPORTER, (), "CPU time."), (), 1.5)]
    body = b"".join(Writer().write(metrics(BUSY, extra), openmetrics=True))
    assert body.endswith(b"# UNIT process_cpu_seconds seconds\nprocess_cpu_seconds_total 1.5\n# EOF\n")
    assert b"process" not in b"".join(
        Writer(lambda name: "process" not in name).write(metrics(BUSY, extra), openmetrics=True)
    )


# --- over time --------------------------------------------------------------------------------------------------------


def test_memory_stays_where_it_was_over_a_thousand_rounds_of_devices_that_come_and_go():
    writer = Writer(lambda name: "peer" in name)
    rows = [peer(n) for n in range(5)]

    def rounds(first, last):
        for n in range(first, last):
            writer.write(metrics(view(device_view(device(*rows[n % 3 :], name=f"wg{n}")))), openmetrics=bool(n % 2))
        gc.collect()  # empties the interpreter's own stocks of tuples and lists too
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = rounds(0, 10)
        assert rounds(10, 1010) - before < 50_000, "a device's lines take 10 kB: five would be too many"
    finally:
        tracemalloc.stop()


def test_facts_that_change_between_two_scrapes_change_in_the_body():
    writer = Writer()
    assert b"wireguard_exporter_clock_steps_total 2\n" in written(BUSY, writer)
    later = BUSY._replace(exporter=FACTS._replace(clock_steps=3, reload_successful=False))
    body = written(later, writer)
    assert b"wireguard_exporter_clock_steps_total 3\n" in body
    assert b"wireguard_exporter_config_last_reload_successful 0\n" in body
    assert PEER_EXPECTED_UP.name.encode() in body
