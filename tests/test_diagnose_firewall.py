"""Which rules of a firewall end the packets of a tunnel: each step as the kernel takes it, and what can't be known is
never said to be so."""

from __future__ import annotations

import struct
from sys import byteorder

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.netlinking import nla
from wg_exporter.cli.diagnose.filtering import forwarded
from wg_exporter.cli.diagnose.firewall import concerned, decode, source, walk
from wg_exporter.cli.diagnose.firewall.concerned import Flow
from wg_exporter.cli.diagnose.firewall.ruleset import (
    ACCEPT,
    DROP,
    FORWARD,
    GOTO,
    INET,
    INPUT,
    IPV4,
    IPV6,
    JUMP,
    NETDEV,
    NETDEV_EGRESS,
    OUTPUT,
    RETURN,
    Chain,
    Element,
    Hook,
    Rule,
    Ruleset,
    Set,
    Step,
    Verdict,
)
from wg_exporter.cli.diagnose.host import Firewall

FLOW = Flow("192.0.2.2", "198.51.100.2", "eth0", 51820, 51999, 0xCA6C, indices={"eth0": 2})
SIX = FLOW._replace(here="2001:db8::1", there="2001:db8::2")


# --- a small language for rules, as nft compiles them -----------------------------------------------------------------


def verdict(code: int, chain: str = "") -> Step:
    return Step("immediate", {"dreg": 0, "data": Verdict(code, chain)})


def compare(data: bytes, op: int = 0) -> Step:
    return Step("cmp", {"sreg": 1, "op": op, "data": data})


def meta(key: int, data: bytes, op: int = 0) -> list[Step]:
    return [Step("meta", {"dreg": 1, "key": key}), compare(data, op)]


def payload(base: int, offset: int, data: bytes, op: int = 0) -> list[Step]:
    return [Step("payload", {"dreg": 1, "base": base, "offset": offset, "len": len(data)}), compare(data, op)]


def udp_dport(port: int, op: int = 0) -> list[Step]:
    return [*meta(16, b"\x11"), *payload(2, 2, port.to_bytes(2), op)]


def udp_sport(port: int) -> list[Step]:
    return [*meta(16, b"\x11"), *payload(2, 0, port.to_bytes(2))]


def ct_state(bits: int) -> list[Step]:
    """`ct state established`, as nft writes it: a mask, and not zero."""
    mask = bits.to_bytes(4, byteorder)
    masked = Step("bitwise", {"sreg": 1, "dreg": 1, "len": 4, "mask": mask, "xor": bytes(4)})
    return [Step("ct", {"dreg": 1, "key": 0}), masked, compare(bytes(4), 1)]


def rule(*steps: Step, handle: int = 7, packets: int | None = None) -> Rule:
    return Rule(handle, steps, packets)


def chain(*rules: Rule, hook: int | None = OUTPUT, accepts: bool = True, family: int = INET, name: str = "c", **more):
    place = None if hook is None else Hook(hook, more.pop("priority", 0), more.pop("devices", ()))
    return Chain(family, "t", name, place, accepts, rules)


def told(*chains: Chain, flow: Flow = FLOW, sets=None, before: Ruleset | None = None):
    """The filters of the outer packets, as (hook, handle or policy, data only)."""
    after = Ruleset(chains, sets or {})
    found = concerned.filters(before or after, after, concerned.outer(flow))
    return [(one.hook, one.where.partition(", handle ")[2] or "policy", one.data_only) for one in found]


# --- single rules -----------------------------------------------------------------------------------------------------


def test_without_rules_nothing_ends_a_packet():
    assert told() == []
    assert told(chain()) == []


def test_a_rule_that_drops_what_leaves_for_the_port_is_told_with_its_place_and_how_to_take_it_out():
    ruleset = Ruleset((chain(rule(*udp_dport(51999), verdict(DROP), handle=4), name="output"),))
    (found,) = concerned.filters(ruleset, ruleset, concerned.outer(FLOW), lambda _: {4: "udp dport 51999 drop"})
    assert found.hook == "output"
    assert found.rule == "udp dport 51999 drop"
    assert found.where == "table inet t, chain output, handle 4"
    assert found.remove == "nft delete rule inet t output handle 4"
    assert found.grew is None
    assert not found.data_only


@pytest.mark.parametrize(
    "steps",
    [
        udp_dport(1234),
        udp_dport(51999, op=1),
        meta(7, b"eth1".ljust(16, b"\0")),
        meta(3, bytes(4)),
        meta(15, b"\x0a"),
        payload(1, 16, bytes([10, 0, 0, 1])),
        payload(2, 300, b"\0"),  # beyond the packet
    ],
    ids=["other port", "not this port", "other interface", "other mark", "IPv6", "other address", "beyond the packet"],
)
def test_rules_for_other_packets_are_not_told(steps):
    assert told(chain(rule(*steps, verdict(DROP)))) == []


@pytest.mark.parametrize(
    "steps",
    [
        meta(7, b"eth0".ljust(16, b"\0")),
        meta(7, b"eth"),  # eth*
        meta(5, (2).to_bytes(4, byteorder)),
        meta(3, (0xCA6C).to_bytes(4, byteorder)),
        payload(1, 16, bytes([198, 51, 100, 2])),
        payload(1, 16, bytes([198, 51])),
        udp_dport(51000, op=5),
    ],
    ids=["interface", "wildcard", "index", "mark", "address", "network", "at least"],
)
def test_rules_for_this_packet_are_told(steps):
    assert told(chain(rule(*steps, verdict(DROP)))) == [("output", "7", False)]


def test_a_rule_that_looks_for_data_alone_leaves_handshakes_alone():
    drop = [*udp_dport(51999), *payload(2, 8, b"\4"), verdict(DROP)]
    assert told(chain(rule(*drop))) == [("output", "7", True)]
    drop = [*udp_dport(51999), *payload(2, 8, b"\1"), verdict(DROP)]
    assert told(chain(rule(*drop))) == [("output", "7", False)]


def test_reject_is_a_drop_that_says_so():
    ruleset = Ruleset((chain(rule(*udp_dport(51999), Step("reject", {}))),))
    (found,) = concerned.filters(ruleset, ruleset, concerned.outer(FLOW))
    assert found.rule == "a rule that rejects"


def test_what_is_accepted_before_is_not_dropped_after():
    accept, drop = rule(*udp_dport(51999), verdict(ACCEPT)), rule(verdict(DROP), handle=8)
    assert told(chain(accept, drop)) == []
    assert told(chain(drop, accept)) == [("output", "8", False)]
    # An accept ends its own chain only: another one at the same hook may still drop.
    other = chain(drop, priority=10)
    assert told(chain(accept), other) == [("output", "8", False)]


def test_a_policy_of_drop_is_told_if_no_rule_accepts_before():
    assert told(chain(rule(*udp_dport(51999), verdict(ACCEPT)), accepts=False)) == []
    assert told(chain(rule(*udp_dport(53), verdict(ACCEPT)), accepts=False)) == [("output", "policy", False)]
    ruleset = Ruleset((chain(hook=INPUT, accepts=False, name="input"),))
    (found,) = concerned.filters(ruleset, ruleset, concerned.outer(FLOW))
    assert found.remove == "nft insert rule inet t input udp dport 51820 accept"


def test_names_that_nft_would_read_as_something_else_are_put_into_no_command():
    ruleset = Ruleset((chain(rule(verdict(DROP)), name="x; flush ruleset"),))
    (found,) = concerned.filters(ruleset, ruleset, concerned.outer(FLOW))
    assert not found.remove
    assert source.texts(ruleset.chains[0]) == {}


@pytest.mark.parametrize(
    ("hook", "family", "flow", "is_told"),
    [
        (FORWARD, INET, FLOW, False),
        (OUTPUT, IPV4, FLOW, True),
        (OUTPUT, IPV6, FLOW, False),
        (OUTPUT, IPV6, SIX, True),
        (OUTPUT, IPV4, SIX, False),
    ],
)
def test_only_chains_that_see_the_packet_count(hook, family, flow, is_told):
    assert bool(told(chain(rule(verdict(DROP)), hook=hook, family=family), flow=flow)) is is_told


def test_chains_of_an_interface_see_its_packets_alone():
    drop = rule(verdict(DROP))
    on = {"family": NETDEV, "hook": NETDEV_EGRESS}
    assert told(chain(drop, devices=("eth0",), **on)) == [("output", "7", False)]
    assert told(chain(drop, devices=("eth1",), **on)) == []


# --- jumps ------------------------------------------------------------------------------------------------------------


def test_a_jump_comes_back_and_a_goto_does_not():
    inner = chain(rule(*udp_dport(53), verdict(ACCEPT)), hook=None, name="inner")
    after = rule(verdict(DROP), handle=9)
    assert told(chain(rule(verdict(JUMP, "inner")), after), inner) == [("output", "9", False)]
    assert told(chain(rule(verdict(GOTO, "inner")), after), inner) == []
    assert told(chain(rule(verdict(GOTO, "inner")), after, accepts=False), inner) == [("output", "policy", False)]
    dropping = inner._replace(rules=(rule(verdict(DROP), handle=3),))
    assert told(chain(rule(verdict(JUMP, "inner"))), dropping) == [("output", "3", False)]
    returning = inner._replace(rules=(rule(verdict(RETURN)), rule(verdict(DROP), handle=3)))
    assert told(chain(rule(verdict(JUMP, "inner"))), returning) == []


def test_a_ruleset_without_an_end_has_one_here():
    inner = chain(*[rule(verdict(JUMP, "inner"))] * 8, hook=None, name="inner")
    assert told(chain(rule(verdict(JUMP, "inner")), rule(verdict(DROP))), inner) == []


# --- what can't be known ----------------------------------------------------------------------------------------------


def test_a_rule_that_may_match_is_told_only_if_its_counter_grew():
    limit = Step("limit", {})
    quiet, busy = rule(limit, verdict(DROP), packets=5), rule(limit, verdict(DROP), packets=9)
    assert told(chain(busy), before=Ruleset((chain(busy),))) == []
    found = concerned.filters(Ruleset((chain(quiet),)), Ruleset((chain(busy),)), concerned.outer(FLOW))
    assert [one.grew for one in found if one.hook == "output"] == [4]


def test_an_accept_that_may_match_makes_what_follows_unsure():
    unknown = [Step("match", {"name": "recent"}), verdict(ACCEPT)]
    assert told(chain(rule(*unknown), rule(verdict(DROP)))) == []
    assert told(chain(rule(*unknown), accepts=False)) == []
    comment = [Step("match", {"name": "comment"}), *udp_dport(51999), verdict(DROP)]
    assert told(chain(rule(*comment))) == [("output", "7", False)]


def test_a_rule_with_a_false_step_does_not_match_whatever_else_is_not_known():
    assert told(chain(rule(Step("limit", {}), *udp_dport(53), verdict(ACCEPT)), rule(verdict(DROP)))) != []


@pytest.mark.parametrize(("flow", "drops"), [(FLOW, True), (FLOW._replace(asked=True), False)])
def test_answers_to_what_we_sent_are_established_and_calls_are_new(flow, drops):
    established = rule(*ct_state(2), verdict(ACCEPT))
    assert told(chain(established, hook=INPUT, accepts=False), flow=flow) == (
        [("input", "policy", False)] if drops else []
    )


def test_a_jump_that_may_happen_ends_nothing():
    inner = chain(rule(verdict(ACCEPT)), hook=None, name="inner")
    jump, drop = rule(Step("limit", {}), verdict(JUMP, "inner")), rule(verdict(DROP), handle=9, packets=5)
    after = Ruleset((chain(jump, drop), inner))
    before = Ruleset((chain(jump, drop._replace(packets=2)), inner))
    found = concerned.filters(before, after, concerned.outer(FLOW))
    assert [(one.hook, one.grew) for one in found] == [("output", 3)]


def test_what_we_send_is_new_until_something_came_back():
    new = rule(*ct_state(8), verdict(DROP))
    assert told(chain(new), flow=FLOW._replace(asked=True)) == [("output", "7", False)]
    assert told(chain(new), flow=FLOW._replace(established=True)) == []


# --- sets -------------------------------------------------------------------------------------------------------------


def look_up(name: str = "s", **more: object) -> Step:
    return Step("lookup", {"set": name, "sreg": 1} | more)


def port_set(*elements: Element, **more: object) -> dict[tuple[int, str, str], Set]:
    return {(INET, "t", "s"): Set(elements, **more)}


LOAD_PORT = [*meta(16, b"\x11"), Step("payload", {"dreg": 1, "base": 2, "offset": 2, "len": 2})]


def test_sets_of_ports():
    steps = [*LOAD_PORT, look_up(), verdict(DROP)]
    port = Element((51999).to_bytes(2))
    assert told(chain(rule(*steps)), sets=port_set(port)) == [("output", "7", False)]
    assert told(chain(rule(*steps)), sets=port_set(Element((53).to_bytes(2)))) == []
    inverted = [*LOAD_PORT, look_up(flags=1), verdict(DROP)]
    assert told(chain(rule(*inverted)), sets=port_set(port)) == []
    assert told(chain(rule(*steps)), sets=port_set(port, known=False)) == []  # not known
    assert told(chain(rule(*steps))) == []


@pytest.mark.parametrize(
    ("first", "last", "inside"), [(51000, 52000, True), (52000, 53000, False), (1000, 51999, False)]
)
def test_sets_of_intervals(first, last, inside):
    """An interval ends before its end; elements come in any order."""
    ends = Element(last.to_bytes(2), ends=True), Element(first.to_bytes(2))
    found = told(chain(rule(*LOAD_PORT, look_up(), verdict(DROP))), sets=port_set(*ends, intervals=True))
    assert bool(found) is inside


def test_one_interval_ends_where_the_next_begins():
    middle = (51999).to_bytes(2)
    ends = (
        Element((1).to_bytes(2)),
        Element(middle, ends=True),
        Element(middle),
        Element((60000).to_bytes(2), ends=True),
    )
    assert told(chain(rule(*LOAD_PORT, look_up(), verdict(DROP))), sets=port_set(*ends, intervals=True))


def test_verdict_maps():
    port = Element((51999).to_bytes(2), data=Verdict(DROP))
    assert told(chain(rule(*LOAD_PORT, look_up(dreg=0))), sets=port_set(port)) == [("output", "7", False)]


# --- bytes of the kernel ----------------------------------------------------------------------------------------------


def be32(number: int) -> bytes:
    return struct.pack("!i", number)


def expression(kind: str, data: bytes) -> bytes:
    return nla(1, nla(1, kind.encode() + b"\0") + nla(2, data))


def test_a_rule_is_taken_apart_as_the_kernel_writes_it():
    drop = nla(1, be32(0)) + nla(2, nla(2, nla(1, be32(0))))
    steps = (
        expression("payload", nla(1, be32(1)) + nla(2, be32(2)) + nla(3, be32(8)) + nla(4, be32(1)))
        + expression("cmp", nla(1, be32(1)) + nla(2, be32(0)) + nla(3, nla(1, b"\4")))
        + expression("counter", nla(1, struct.pack("!Q", 100)) + nla(2, struct.pack("!Q", 3)))
        + expression("immediate", drop)
    )
    message = bytes([1, 0, 0, 0]) + nla(1, b"t\0") + nla(2, b"c\0") + nla(3, struct.pack("!Q", 5)) + nla(4, steps)
    place, found = decode.rule(message)
    assert place == (INET, "t", "c")
    assert (found.handle, found.packets) == (5, 3)
    assert [step.kind for step in found.steps] == ["payload", "cmp", "counter", "immediate"]
    assert found.steps[3].fields["data"] == Verdict(DROP)
    assert told(chain(found)) == [("output", "5", True)]


def test_a_chain_and_its_hook():
    hook = nla(1, be32(OUTPUT)) + nla(2, be32(-150))
    message = bytes([1, 0, 0, 0]) + nla(1, b"t\0") + nla(3, b"out\0") + nla(4, hook) + nla(5, be32(0))
    assert decode.chain(message) == Chain(INET, "t", "out", Hook(OUTPUT, -150), accepts=False)
    assert decode.chain(bytes([1, 0, 0, 0]) + nla(1, b"t\0") + nla(3, b"sub\0")) == Chain(INET, "t", "sub")


def test_a_set_and_its_elements():
    message = bytes([1, 0, 0, 0]) + nla(1, b"t\0") + nla(2, b"s\0") + nla(3, be32(4))
    assert decode.named_set(message) == ((INET, "t", "s"), Set(intervals=True))
    end = nla(1, nla(1, nla(1, b"\0\x17")) + nla(3, be32(1)))
    elements = nla(1, nla(1, nla(1, b"\0\x16"))) + end
    message = bytes([1, 0, 0, 0]) + nla(1, b"t\0") + nla(2, b"s\0") + nla(3, elements)
    assert decode.elements(message) == [Element(b"\0\x16"), Element(b"\0\x17", ends=True)]


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_whatever_the_kernel_says_nothing_is_raised(data):
    decode.chain(data)
    decode.elements(data)
    decode.named_set(data)
    found = decode.rule(data)
    if found is not None:
        told(chain(found[1]))


_values = st.one_of(
    st.none(), st.integers(-5, 40), st.binary(max_size=20), st.builds(Verdict, st.integers(-6, 6), st.just("c"))
)
_kinds = st.sampled_from(
    [*walk.LOADED, *walk.PASSING, "cmp", "range", "bitwise", "byteorder", "lookup", "immediate", "x"]
)
_names = [
    "dreg",
    "sreg",
    "key",
    "base",
    "offset",
    "len",
    "op",
    "data",
    "from",
    "to",
    "mask",
    "xor",
    "size",
    "set",
    "flags",
]
_steps = st.builds(Step, _kinds, st.dictionaries(st.sampled_from(_names), _values, max_size=6))


@settings(deadline=None)
@given(st.lists(st.lists(_steps, max_size=6), max_size=5))
def test_whatever_rules_there_are_a_walk_ends_and_raises_nothing(rules):
    told(chain(*(rule(*steps) for steps in rules), accepts=False), sets=port_set(Element(b"\1\2"), intervals=True))


def test_nf_tables_that_is_not_loaded_is_not_loaded_by_asking(tmp_path):
    modules = tmp_path / "modules"
    assert source.loaded(modules, tmp_path)  # a kernel without modules: it may be built in
    modules.write_text("wireguard 1 0 - Live 0x0\n")
    (tmp_path / "nf_tables").mkdir()
    assert source.loaded(modules, tmp_path)


# --- what is not in the ruleset ---------------------------------------------------------------------------------------


def test_tables_of_iptables_legacy_that_may_drop_are_told(tmp_path):
    assert source.legacy(tmp_path) == ()  # a kernel without them
    (tmp_path / "ip_tables_names").write_text("nat\n")
    (tmp_path / "ip6_tables_names").write_text("")
    assert source.legacy(tmp_path) == ()  # no rule there may drop
    (tmp_path / "ip_tables_names").write_text("nat\nraw\nfilter\n")
    (tmp_path / "ip6_tables_names").write_text("mangle\n")
    assert source.legacy(tmp_path) == (
        "the rules of iptables-legacy (tables filter, raw), which `iptables-legacy-save` prints",
        "the rules of ip6tables-legacy (table mangle), which `ip6tables-legacy-save` prints",
    )


def test_a_list_of_tables_that_can_not_be_read_is_not_taken_for_an_empty_one(tmp_path):
    (tmp_path / "ip_tables_names").mkdir()  # a read fails, as for whoever is not root
    assert source.legacy(tmp_path) == ("whether iptables-legacy has rules, which the kernel tells root alone",)


def test_a_host_that_forwards_is_known_by_either_setting(tmp_path):
    assert not source.forwards(tmp_path)
    for path, value in (("ipv4/ip_forward", "0"), ("ipv6/conf/all/forwarding", "0")):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(f"{value}\n")
    assert not source.forwards(tmp_path)
    (tmp_path / "ipv6/conf/all/forwarding").write_text("1\n")
    assert source.forwards(tmp_path)


def test_chains_through_which_packets_of_others_go_are_said_not_to_be_looked_at():
    def chain(name, *, family=INET, number=FORWARD, accepts=True, rules=()):
        return Chain(family, "filter", name, Hook(number, 0), accepts, rules)

    def said(*chains, forwards=True, target="10.0.0.1"):
        return forwarded(Firewall(Ruleset(), Ruleset(chains), (), forwards), target)

    drops = chain("FORWARD", accepts=False)
    assert said(drops) == (
        "packets that this host forwards for others (inet filter FORWARD): only its own were followed through the rules"
    )
    assert said(drops, forwards=False) == ""
    assert said(chain("FORWARD"), chain("input", number=INPUT, accepts=False), chain("x")._replace(hook=None)) == ""
    assert said(chain("old", family=IPV4, accepts=False), target="fd00::1") == ""
    assert "(ip6 filter six)" in said(chain("six", family=IPV6, rules=(Rule(1, ()),)), target="fd00::1")
    assert "(inet filter a, inet filter b, inet filter c, ...)" in said(*(chain(n, accepts=False) for n in "abcd"))
