"""One verdict for any findings, an MTU that is known to pass, and a sentence and commands to act on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pathsim import Path, World
from wg_exporter.probed import SendError, Verdict
from wg_exporter.prober.mtu.advice import Entry, advise
from wg_exporter.prober.mtu.locate import Direction
from wg_exporter.prober.mtu.oracle import Oracle
from wg_exporter.prober.mtu.pairs import Big
from wg_exporter.prober.mtu.verdict import RULES, Findings, Tunnel, judge, outer_path, recommended, recommended_together

IPV4 = Tunnel("wg0", 1420, "198.51.100.2", "10.0.0.2")
IPV6 = Tunnel("wg0", 1420, "2001:db8::2", "fd00::2")
FINE = Findings(IPV4, big=Big.PASSED, ever=True, inner=1420, outer=1500, outer_full=True, route=1500)
LARGE = FINE._replace(big=Big.HOLE, inner=1360, outer=None, outer_full=None)  # echoes alone
HOLE = LARGE._replace(direction=Direction.TOWARDS)
MUTE = Findings(IPV4, silent=6, alive=True, route=1500)


def test_the_rules_stand_in_the_order_of_the_verdicts():
    assert [rule.verdict for rule in RULES] == list(Verdict)


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        (Findings(IPV4), Verdict.UNKNOWN),
        (FINE, Verdict.OK),
        (FINE._replace(outer=None, outer_full=None), Verdict.OK),
        (FINE._replace(route=1400), Verdict.FRAGMENTED_LOCAL),
        (FINE._replace(route=1480), Verdict.OK),
        (FINE._replace(learnt=1400), Verdict.FRAGMENTED_LOCAL),  # it is so, whoever said it
        (FINE._replace(learnt=1480), Verdict.OK),
        (FINE._replace(outer=1479, outer_full=False), Verdict.FRAGMENTED_PATH),
        (FINE._replace(fragment=1380), Verdict.REMOTE_SMALLER),
        (FINE._replace(tunnel=IPV6, outer=1479, outer_full=False), Verdict.OK),  # over IPv6 no router fragments
        (HOLE, Verdict.BLACKHOLE),
        (HOLE._replace(spotty=True), Verdict.FILTERED_LARGE),
        (HOLE._replace(lossy=True), Verdict.BLACKHOLE),  # which took longer to prove
        (LARGE, Verdict.FILTERED_LARGE),
        (LARGE._replace(direction=Direction.BACK), Verdict.FILTERED_LARGE),
        (LARGE._replace(agreeing=True), Verdict.BLACKHOLE),
        (LARGE._replace(agreeing=True, direction=Direction.BACK), Verdict.BLACKHOLE),
        (LARGE._replace(agreeing=True, lossy=True), Verdict.BLACKHOLE),
        (LARGE._replace(lossy=True), Verdict.INCONCLUSIVE),
        (HOLE._replace(lossy=True, spotty=True), Verdict.INCONCLUSIVE),
        (LARGE._replace(ever=True, oracle=Oracle.LOST), Verdict.BLACKHOLE),
        (LARGE._replace(ever=True, oracle=Oracle.ARRIVES), Verdict.FILTERED_LARGE),
        (LARGE._replace(ever=True, oracle=Oracle.INCONCLUSIVE), Verdict.FILTERED_LARGE),
        (LARGE._replace(inner_claim=1360), Verdict.INNER_PATH_SMALLER),
        (HOLE._replace(inner_claim=1360), Verdict.INNER_PATH_SMALLER),
        (HOLE._replace(refused=1360), Verdict.INTERFACE_ABOVE_ROUTE),
        (HOLE._replace(silent=6, alive=True), Verdict.INCONCLUSIVE),
        (HOLE._replace(silent=6, alive=False), Verdict.UNREACHABLE),
        (FINE._replace(silent=6, alive=False), Verdict.UNREACHABLE),
        (FINE._replace(silent=6, alive=None), Verdict.INCONCLUSIVE),
        (FINE._replace(silent=5, alive=False), Verdict.OK),
        (FINE._replace(big=Big.UNSURE), Verdict.INCONCLUSIVE),
        (MUTE, Verdict.FILTERED),
        (MUTE._replace(alive=None), Verdict.INCONCLUSIVE),
        (MUTE._replace(alive=False), Verdict.UNREACHABLE),
        (MUTE._replace(oracle=Oracle.LOST), Verdict.BLACKHOLE),
        (MUTE._replace(oracle=Oracle.LOST, alive=False), Verdict.BLACKHOLE),  # nothing but a handshake came
        (MUTE._replace(oracle=Oracle.ARRIVES), Verdict.FILTERED),
        (MUTE._replace(oracle=Oracle.ARRIVES, route=1400), Verdict.FRAGMENTED_LOCAL),
        (MUTE._replace(oracle=Oracle.INCONCLUSIVE), Verdict.INCONCLUSIVE),
    ],
)
def test_the_first_rule_that_holds_gives_the_verdict(findings, verdict):
    assert judge(findings) is verdict


def test_what_is_worse_hides_what_is_better():
    """All faults at once, taken away one after the other, show the verdicts in their order."""
    findings = HOLE._replace(
        big=Big.HOLE, silent=6, alive=False, refused=1300, inner_claim=1300, fragment=1380, route=1400, outer_full=False
    )
    steps = [
        ({}, Verdict.UNREACHABLE),
        ({"alive": True}, Verdict.INCONCLUSIVE),
        ({"silent": 0}, Verdict.INTERFACE_ABOVE_ROUTE),
        ({"refused": None}, Verdict.INNER_PATH_SMALLER),
        ({"inner_claim": None}, Verdict.BLACKHOLE),
        ({"direction": Direction.BACK}, Verdict.FILTERED_LARGE),
        ({"big": Big.PASSED}, Verdict.FRAGMENTED_LOCAL),
        ({"route": 1500}, Verdict.FRAGMENTED_PATH),
        ({"outer_full": True}, Verdict.REMOTE_SMALLER),
        ({"fragment": None}, Verdict.OK),
    ]
    for change, verdict in steps:
        findings = findings._replace(**change)
        assert judge(findings) is verdict


@pytest.mark.parametrize(
    ("findings", "alone", "together"),
    [
        (FINE, 1420, 1420),
        (FINE._replace(outer=None, outer_full=None), 1420, 1420),
        (FINE._replace(outer=1400, outer_full=False), 1328, 1340),  # the far side pads 1340 bytes to 1344
        (FINE._replace(outer=1433, outer_full=False), 1360, 1373),
        (FINE._replace(outer=1404, outer_full=False), 1344, 1344),
        (FINE._replace(outer=1479, outer_full=False), 1408, 1419),
        (FINE._replace(tunnel=IPV6, outer=1433, outer_full=False), 1420, 1420),
        (FINE._replace(tunnel=IPV6, route=1433), 1344, 1353),
        (FINE._replace(tunnel=IPV4._replace(roams=True), outer=1433, outer_full=False), 1344, 1353),
        (FINE._replace(route=1400), 1328, 1340),
        (FINE._replace(learnt=560), 1420, 1420),  # that the kernel was told it is no proof
        (FINE._replace(learnt=560, outer=None, outer_full=None), None, None),
        (FINE._replace(learnt=560, outer=1400, outer_full=False), 1328, 1340),
        (FINE._replace(learnt=560, route=1400, outer=None, outer_full=None), 1328, 1340),
        (FINE._replace(fragment=1380), 1380, 1380),  # the far side pads no further than its own MTU
        (FINE._replace(fragment=1372, route=1440), 1372, 1372),
        (HOLE, 1360, 1360),
        (HOLE._replace(outer=1433, outer_full=False), 1360, 1373),  # within the padding of what passed inside
        (HOLE._replace(outer=1436, outer_full=False), 1360, 1360),  # not: 1376 was lost inside
        (HOLE._replace(outer=1500, outer_full=True), 1360, 1360),
        (HOLE._replace(outer=1400, outer_full=False), 1328, 1340),
        (HOLE._replace(inner_claim=1367, inner=1367, inner_exact=True), 1367, 1367),
        (HOLE._replace(inner=None), None, None),
        (HOLE._replace(refused=0, inner=None), None, None),
        (LARGE, None, None),  # whatever the limit is, it is none of the path
        (LARGE._replace(inner=128), None, None),
        (HOLE._replace(inner=560), None, None),
        (HOLE._replace(inner=576), 576, 576),
        (HOLE._replace(tunnel=IPV4._replace(ipv6_inside=True), inner=1264), None, None),
        (HOLE._replace(tunnel=IPV4._replace(ipv6_inside=True), inner=1280), 1280, 1280),
        (FINE._replace(tunnel=IPV4._replace(ipv6_inside=True), outer=1342, outer_full=False), 1280, 1282),
        (FINE._replace(tunnel=IPV4._replace(mtu=500), outer=1500), None, None),
        (MUTE, None, None),
        (MUTE._replace(oracle=Oracle.LOST), None, None),
        (MUTE._replace(oracle=Oracle.LOST, outer=1433, outer_full=False), 1360, 1373),
        (MUTE._replace(oracle=Oracle.ARRIVES), 1420, 1420),
        (MUTE._replace(alive=False), None, None),
        (Findings(IPV4), None, None),
    ],
)
def test_the_recommended_mtu_is_what_is_known_to_pass_on_this_side_alone_and_on_both(findings, alone, together):
    assert (recommended(findings), recommended_together(findings)) == (alone, together)


def test_padding_is_told_where_only_inner_probes_came_through():
    assert outer_path(HOLE) == (1420, 15)
    assert outer_path(HOLE._replace(outer=1433)) == (1433, 0)
    assert outer_path(FINE._replace(outer=None)) == (None, 0)


@pytest.mark.parametrize(
    ("findings", "hop", "sentence"),
    [
        (
            FINE._replace(outer=1400, outer_full=False, tunnel=IPV4),
            "192.0.2.1",
            (
                "The path to 198.51.100.2 carries 1400-byte packets from hop 192.0.2.1 on; wg0 sends up to 1480. "
                "Set its MTU to 1328, or to 1340 on both sides."
            ),
        ),
        (
            HOLE._replace(direction=Direction.TOWARDS),
            "",
            (
                "Packets above 1360 bytes are lost without a word on the way to 10.0.0.2; the path to 198.51.100.2 "
                "carries 1420 to 1435-byte packets, wg0 sends up to 1480. Set its MTU to 1360."
            ),
        ),
        (
            HOLE._replace(direction=Direction.BACK, agreeing=True, outer=1420, outer_full=False),
            "",
            (
                "Packets above 1360 bytes are lost without a word on the way back from 10.0.0.2; wg0 sends up to 1420. "
                "Set its MTU and the far side's to 1360."
            ),
        ),
        (
            HOLE._replace(inner=None),
            "",
            (
                "Packets of 1420 bytes are lost without a word on the way to 10.0.0.2; wg0 sends up to 1420. "
                "No size that could be set is known to get through."
            ),
        ),
        (
            FINE._replace(route=1400),
            "",
            (
                "This host's route to 198.51.100.2 carries 1400-byte packets; wg0 sends up to 1480, in fragments. "
                "Set its MTU to 1328, or to 1340 on both sides."
            ),
        ),
        (
            FINE._replace(learnt=560),
            "",
            (
                "This host's route to 198.51.100.2 carries 560-byte packets; wg0 sends up to 1480, in fragments. "
                "A packet-too-big taught it that, which is out of date or forged, for full-size probes get there "
                "whole: ip route flush cache."
            ),
        ),
        (
            FINE._replace(tunnel=IPV6, learnt=1300, outer=None, outer_full=None),
            "",
            (
                "This host's route to 2001:db8::2 carries 1300-byte packets; wg0 sends up to 1500, in fragments. "
                "A packet-too-big taught it that; no probe has met one, so it may be forged. Make the host forget it: "
                "ip -6 route flush cache."
            ),
        ),
        (
            FINE._replace(fragment=1380),
            "",
            (
                "The far side's MTU is 1380 to 1387, wg0 has 1420: full-size answers of 10.0.0.2 come in fragments. "
                "Set its MTU to 1380."
            ),
        ),
        (
            HOLE._replace(refused=1391, inner=1391, inner_exact=True),
            "",
            "wg0 has an MTU of 1420, but this host's route to 10.0.0.2 carries 1391. Set its MTU to 1391.",
        ),
        (
            HOLE._replace(inner_claim=1391, inner=1391, inner_exact=True, hop="10.0.0.254"),
            "",
            (
                "Inside the tunnel, the way to 10.0.0.2 carries 1391-byte packets from hop 10.0.0.254 on; wg0 sends up "
                "to 1420. Set its MTU to 1391."
            ),
        ),
        (
            LARGE,
            "",
            (
                "Small echoes are answered by 10.0.0.2, those above 1360 bytes are not. Whether other packets of that "
                "size get through is not known. Fetch a large file through the tunnel: if that works, only echoes are "
                "dropped, perhaps by 10.0.0.2 itself."
            ),
        ),
        (
            LARGE._replace(direction=Direction.BACK),
            "",
            (
                "Small echoes are answered by 10.0.0.2, those above 1360 bytes are not. Towards it full-size packets "
                "pass: UDP of 1420 bytes was refused. On the way back it is a hole or a filter of echoes. Fetch a "
                "large file through the tunnel: if that works, only echoes are dropped, perhaps by 10.0.0.2 itself."
            ),
        ),
        (
            FINE._replace(tunnel=IPV6, outer=1433, outer_full=False),
            "",
            (
                "Full-size packets of 1420 bytes get through to fd00::2; whether in fragments can't be told, for a "
                "router says that the path carries 1433 bytes."
            ),
        ),
        (
            FINE._replace(outer=1480),
            "",
            "Full-size packets of 1420 bytes get through to 10.0.0.2, in one piece.",
        ),
    ],
)
def test_one_sentence_says_it_with_the_numbers(findings, hop, sentence):
    assert advise(findings, hop).sentence == sentence


@pytest.mark.parametrize(
    ("unsent", "words"),
    [
        (None, "10.0.0.2 has not been probed yet."),
        (SendError.NO_DEVICE, "wg0 is down or gone, so 10.0.0.2 can't be probed: ip link set wg0 up."),
        (SendError.NO_PERMISSION, "This host refuses to send probes to 10.0.0.2: let a firewall of its own pass ICMP"),
        (SendError.NO_KEY, "no peer of wg0 has it in its allowed IPs"),
        (SendError.NO_ROUTE, "This host has no way to 10.0.0.2"),
        (SendError.NO_BUFFER, "This host can't send probes to 10.0.0.2 (no_buffer)"),
        (SendError.TOO_BIG, "This host can't send probes to 10.0.0.2 (too_big)"),
        (SendError.OTHER, "This host can't send probes to 10.0.0.2 (other)"),
    ],
)
def test_what_is_not_known_is_said_with_the_reason(unsent, words):
    found = advise(Findings(IPV4, unsent=unsent))
    assert found.verdict is Verdict.UNKNOWN
    assert words in found.sentence
    assert unsent is None or found.sentence.endswith("Whether users' packets get through is not known.")


def test_the_commands_are_for_now_for_later_and_for_the_far_side():
    advice = advise(FINE._replace(outer=1400, outer_full=False))
    assert (advice.commands, advice.wg_quick) == (("ip link set dev wg0 mtu 1328",), "MTU = 1328")
    assert (advice.far_commands, advice.far_wg_quick) == (("ip link set dev INTERFACE mtu 1340",), "MTU = 1340")
    assert (advice.then_commands, advice.then_wg_quick) == (("ip link set dev wg0 mtu 1340",), "MTU = 1340")
    same = advise(HOLE)
    assert (same.commands, same.then_commands, same.then_wg_quick) == (("ip link set dev wg0 mtu 1360",), (), "")


def test_a_path_mtu_that_only_the_kernel_was_told_is_to_be_forgotten_and_not_to_be_set():
    advice = advise(FINE._replace(learnt=560))
    assert (advice.mtu, advice.commands, advice.wg_quick) == (1420, ("ip route flush cache",), "")
    assert (advice.far_commands, advice.then_commands) == ((), ())


def test_commands_run_in_the_namespace_of_the_device_and_about_its_path_in_that_of_its_socket():
    entry = Entry("ip netns exec blue ", "ip netns exec red ")
    advice = advise(FINE._replace(outer=1400, outer_full=False), entry=entry)
    assert advice.commands == ("ip netns exec blue ip link set dev wg0 mtu 1328",)
    assert advice.then_commands == ("ip netns exec blue ip link set dev wg0 mtu 1340",)
    assert advice.far_commands == ("ip link set dev INTERFACE mtu 1340",)
    taught = advise(FINE._replace(learnt=560), entry=entry)
    assert taught.commands == ("ip netns exec red ip route flush cache",)
    assert taught.sentence.endswith(": ip netns exec red ip route flush cache.")
    narrow = FINE._replace(tunnel=IPV4._replace(ipv6_inside=True), outer=1339, outer_full=False)
    clamped = advise(narrow, entry=entry)
    assert all(command.startswith("ip netns exec blue ip") for command in clamped.commands)
    assert not any(command.startswith("ip netns") for command in clamped.far_commands)
    for reason, command in ((SendError.NO_DEVICE, "ip link set wg0 up"), (SendError.NO_ROUTE, "ip route get")):
        unsent = advise(Findings(IPV4, unsent=reason), entry=entry)
        assert f"ip netns exec blue {command}" in unsent.sentence


@pytest.mark.parametrize("findings", [FINE, LARGE, MUTE, MUTE._replace(alive=False), Findings(IPV4)])
def test_where_nothing_is_to_be_changed_there_are_no_commands(findings):
    advice = advise(findings)
    assert (advice.commands, advice.wg_quick, advice.far_commands, advice.far_wg_quick) == ((), "", (), "")


def test_below_1280_the_addresses_of_a_device_with_ipv6_are_spared():
    narrow = FINE._replace(tunnel=IPV4._replace(ipv6_inside=True), outer=1339, outer_full=False)
    advice = advise(narrow)
    assert advice.mtu is None
    assert not any("ip link" in command for command in (*advice.commands, *advice.far_commands))
    assert (advice.wg_quick, advice.far_wg_quick) == ("", "")
    assert advice.commands == (
        "iptables -t mangle -A POSTROUTING -o wg0 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1224",
        "ip6tables -t mangle -A POSTROUTING -o wg0 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1204",
    )
    assert "remove the IPv6 addresses" in advice.caution
    assert "Clamp TCP's MSS to 1224" in advice.sentence
    # At 1280, or without IPv6 on the device, the MTU is what to set.
    assert advise(narrow._replace(outer=1340)).commands == ("ip link set dev wg0 mtu 1280",)
    assert advise(narrow._replace(tunnel=IPV4)).commands == ("ip link set dev wg0 mtu 1264",)


def test_the_advice_for_a_narrow_path_found_by_probing_never_takes_addresses_away():
    for outer in (1339, 1000, 600):
        world = World(Path(links=(1500, outer), ipv6_inside=True))
        world.run(0.5)
        world.settle()
        advice = advise(world.machine.findings(world.now))
        assert advice.mtu is None
        assert "ip link" not in " ".join(advice.commands)
        assert bool(advice.commands) == (outer > 636), "no MSS of a packet that IPv4 need not carry"


sizes = st.none() | st.integers(552, 9000)
evidences = st.builds(
    Findings,
    st.sampled_from([IPV4, IPV6, IPV4._replace(roams=True), IPV6._replace(ipv6_inside=True)]),
    big=st.sampled_from(Big),
    silent=st.integers(0, 9),
    ever=st.booleans(),
    alive=st.none() | st.booleans(),
    refused=st.none() | st.integers(0, 1419),
    inner_claim=st.none() | st.integers(552, 1419),
    fragment=st.none() | st.integers(100, 1419),
    direction=st.sampled_from(Direction),
    oracle=st.none() | st.sampled_from(Oracle),
    inner=st.none() | st.integers(100, 1420),
    inner_exact=st.booleans(),
    route=sizes,
    learnt=sizes,
    outer=sizes,
    outer_full=st.none() | st.booleans(),
    hop=st.sampled_from(["", "192.0.2.1"]),
    lossy=st.booleans(),
    spotty=st.booleans(),
    agreeing=st.booleans(),
)


@given(evidences)
def test_any_findings_have_one_verdict_a_sentence_and_no_mtu_above_what_passed(findings):
    advice = advise(findings)
    assert advice.verdict is judge(findings)
    assert advice.sentence.endswith(".")
    assert "None" not in advice.sentence
    assert "\n" not in advice.sentence
    if advice.mtu is None:
        assert "ip link" not in " ".join(advice.commands)
        return
    assert findings.tunnel.least <= advice.mtu <= recommended_together(findings) <= findings.tunnel.mtu
    if advice.verdict is Verdict.OK:
        assert advice.mtu == findings.tunnel.mtu
        return
    if findings.outer is not None:
        assert advice.mtu <= findings.outer - findings.tunnel.overhead
    if findings.big is Big.HOLE and findings.inner is not None:
        assert advice.mtu <= findings.inner + 15
