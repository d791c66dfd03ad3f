"""A cause as people read it: in the document and back, in `show`, on the page. In the browser: test_page.py."""

from __future__ import annotations

import io
import json

import msgspec
import pytest
from rich.console import Console

from tests.hosts import NOW, device, host, peer
from wg_exporter.causes.cause import Cause, Confidence, Finding
from wg_exporter.cli.show import screen as show
from wg_exporter.health.states import PeerHealth, Reason, State
from wg_exporter.status.cause import in_a_line
from wg_exporter.status.document import Document, encode
from wg_exporter.status.reading import decode
from wg_exporter.web import peers

FOUND = Finding(
    Cause.PORT_UNREACHABLE,
    Confidence.CERTAIN,
    ("192.0.2.7 answered 5 times: port unreachable (ICMP 3/3)",),
    ((Cause.DNS_MOVED, "vpn.example.com still resolves to 192.0.2.7"),),
    (),
    ("On the far side: `wg show`.", "`wg set wg0 peer KEY endpoint 192.0.2.7:PORT`"),
    "",
)
UNSURE = FOUND._replace(
    cause=Cause.SILENT, confidence=Confidence.POSSIBLE, also=(Cause.NAT_FORGOT,), fix=(), uncertain="Not looked at: it."
)
DOWN = PeerHealth(State.DOWN, Reason.HANDSHAKE_UNANSWERED, changed_at=NOW - 60, evidence="6 initiations unanswered")


def night(found=FOUND, *more):
    row = peer("berlin", age=300, expected=True, health=DOWN, endpoint="192.0.2.7:51820")._replace(cause=found)
    return host(device(row, *more))


def text(overview, width=160):
    file = io.StringIO()
    Console(file=file, width=width).print(show.render(overview))
    return file.getvalue()


@pytest.mark.parametrize("found", [FOUND, UNSURE, None])
def test_whoever_reads_the_document_has_the_cause_as_it_was_found(found):
    (row,) = decode(encode(night(found))).devices[0].peers
    assert row.cause == found


def test_strangers_read_the_cause_and_no_line_that_may_have_an_address():
    for endpoints in ("address", "off"):
        told = json.loads(encode(night(), endpoints=endpoints))["devices"][0]["peers"][0]["cause"]
        assert told == {
            "cause": "port_unreachable",
            "confidence": "certain",
            "evidence": [],
            "excluded": [],
            "also": [],
            "fix": [],
            "uncertain": None,
        }
        assert "192.0.2.7:" not in json.dumps(told)


def test_a_cause_is_one_line():
    assert in_a_line("silent", "likely", (), ()) == "cause: silent (likely)"
    assert in_a_line("silent", "possible", ("a", "b"), ("mtu", "slow")) == (
        "cause: silent (possible): a; b; also possible: mtu, slow"
    )


def test_show_has_a_column_for_causes_only_if_there_is_one():
    other = peer("paris", key="B", age=3, expected=True, health=PeerHealth(State.UP))
    assert "port_unreachable" in text(night(FOUND, other), 220)
    assert "cause" not in text(night(None, other), 220)


def test_show_of_one_peer_has_evidence_what_to_do_and_what_was_excluded():
    shown = text(night())
    assert "cause: port_unreachable (certain): 192.0.2.7 answered 5 times: port unreachable (ICMP 3/3)" in shown
    assert "`wg set wg0 peer KEY endpoint 192.0.2.7:PORT`" in shown
    assert "excluded: dns_moved: vpn.example.com still resolves to 192.0.2.7" in shown
    assert "Is it running" not in shown, "the advice for everybody is left out where there is a better one"
    unsure = text(night(UNSURE))
    assert "also possible: nat_forgot" in unsure
    assert "Not looked at: it." in unsure


def test_the_page_has_the_cause_beside_the_reason_and_what_to_do_below():
    made = msgspec.json.decode(encode(night()), type=Document)
    row = peers.row_of(made.devices[0].peers[0], made.devices[0], NOW, 0.0)
    assert row.reason == "handshake_unanswered: port_unreachable"
    assert row.lines[1].startswith("cause: port_unreachable (certain)")
    assert row.lines[2:4] == FOUND.fix
    made = msgspec.json.decode(encode(night(UNSURE)), type=Document)
    row = peers.row_of(made.devices[0].peers[0], made.devices[0], NOW, 0.0)
    assert made.devices[0].peers[0].advice in row.lines
