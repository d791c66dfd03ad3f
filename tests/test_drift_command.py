"""`wg-exporter drift` at the terminal: what it prints, what it advises, and how it ends."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tests.hosts import HOSTILE, NOW, failed, gone, host, link, outcome
from tests.rows import device, key, peer
from tests.serving import App, running
from tests.test_show import text
from wg_exporter.cli import main
from wg_exporter.cli.show.overview import reason_when_empty
from wg_exporter.drift.advice import MOST_COMMANDS, to_keep, to_load
from wg_exporter.drift.kinds import Difference, Drift, Kind
from wg_exporter.model import Backend, Failure, SourceName
from wg_exporter.status import document
from wg_exporter.status.reading import decode
from wg_exporter.status.rows import DeviceRow, PeerRow, Teller
from wg_exporter.web.unix import UnixSocket

PATH = "/etc/wireguard/wg0.conf"
NETDEV = "/etc/systemd/network/wg0.netdev"
A, B, C = key(1), key(2), key(3)
PORT = Difference(Kind.LISTEN_PORT, "", "51820", "51821")
IPS = Difference(Kind.ALLOWED_IPS, A, "10.0.0.1/32", "10.0.0.1/32, 10.9.0.0/16", "anna")
EXTRA = Difference(Kind.PEER_EXTRA, C, "", "10.0.0.3/32")
MISSING = Difference(Kind.PEER_MISSING, B, "10.0.0.2/32", "", "bob")


def drift(*differences: Difference, path: str = PATH, **changes: object) -> Drift:
    counts = dict.fromkeys(Kind, 0)
    for one in differences:
        counts[one.kind] += 1
    return Drift(path, tuple(counts.items()), differences)._replace(**changes)


def row(found: Drift | None, name: str = "wg0", netns: str = "", **changes: object) -> DeviceRow:
    peers = peer(1), peer(3)
    read = device(*peers, name=name, netns=netns)._replace(**changes)
    rows = PeerRow(peers[0], "Anna's", True, False), PeerRow(peers[1], key(3)[:8], False, False)
    return DeviceRow(read, None, link(name), rows, drift=found)


class Exporter(App):
    """Answers with a document."""

    def document(self, *, private, round_trips=False):
        return [document.encode(self.overview)]


@pytest.fixture
def run(tmp_path):
    """Runs the command against an exporter that shows these rows: (exit code, standard output, standard error)."""
    app = Exporter()
    path = str(tmp_path / "s")

    def ask(*rows: DeviceRow, arguments=(), **changes):
        app.overview = host(*rows)._replace(teller=Teller("1", "gw1", "", NOW - 99), **changes)
        done = CliRunner().invoke(main, ["drift", f"--socket={path}", *arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    with running(app, unix=UnixSocket(path)):
        yield ask


# What is printed.


def test_a_diff_of_the_file_with_the_commands_that_load_it(run):
    code, out, _ = run(row(drift(PORT, IPS, MISSING, EXTRA)))
    assert code == 1
    assert (
        out
        == f"""\
wg0 differs from {PATH} in 4 places (- the file says, + the device says):

  [Interface]
  - ListenPort = 51820
  + ListenPort = 51821

  [Peer] anna, {A[:8]}
  - AllowedIPs = 10.0.0.1/32
  + AllowedIPs = 10.0.0.1/32, 10.9.0.0/16

  [Peer] bob, {B}: in the file alone
  - PublicKey = {B}
  - AllowedIPs = 10.0.0.2/32

  [Peer] {C}: on the device alone
  + PublicKey = {C}
  + AllowedIPs = 10.0.0.3/32
  + PersistentKeepalive = 25

  To load the file:
    wg addconf wg0 <(wg-quick strip wg0)
    wg set wg0 peer {C} remove
  To keep what runs:
    write the lines with + into {PATH}; `wg showconf wg0` prints them, keys too
""".replace("anna", "Anna's")
    )


def test_a_device_that_is_as_its_file_says_is_one_line(run):
    assert run(row(drift())) == (0, f"wg0 is as {PATH} says.\n", "")


def test_each_interface_has_its_say(run):
    code, out, _ = run(row(drift(PORT)), row(drift(path="/etc/wireguard/wg1.conf"), "wg1"), row(None, "wg2"))
    assert code == 1
    assert out.splitlines()[-2:] == [
        "wg1 is as /etc/wireguard/wg1.conf says.",
        "wg2: no file describes it, so nothing was compared.",
    ]


def test_of_secret_keys_nothing_is_said_but_that_they_differ(run):
    found = [
        Difference(Kind.PRIVATE_KEY, "", "set", "another"),
        Difference(Kind.PRESHARED_KEY, A, "set", "another"),
        Difference(Kind.PRESHARED_KEY, B, "", "set"),
        Difference(Kind.PRESHARED_KEY, C, "set", ""),
    ]
    _, out, _ = run(row(drift(*found)))
    assert "  - PrivateKey = (hidden)\n  + PrivateKey = (hidden, another one)\n" in out
    assert "  - PresharedKey = (hidden)\n  + PresharedKey = (hidden, another one)\n" in out
    assert "  - (no PresharedKey)\n  + PresharedKey = (hidden)\n" in out
    assert "  - PresharedKey = (hidden)\n  + (no PresharedKey)\n" in out


def test_what_was_not_compared_and_why_is_told(run):
    _, out, _ = run(row(drift(PORT, hooked=True, others=("/etc/amnezia/amneziawg/wg0.conf",))))
    assert "  It is described by /etc/amnezia/amneziawg/wg0.conf too, which fits worse.\n" in out
    assert "  Its peers were not compared: commands in the file (PostUp) make them.\n" in out
    _, out, _ = run(row(drift(hooked=True)))
    assert out == f"wg0 is as {PATH} says. Its peers were not compared: commands in the file (PostUp) make them.\n"


def test_more_differences_than_are_named_are_counted(run):
    counts = ((Kind.PEER_EXTRA, 1700),)
    _, out, _ = run(row(drift(EXTRA, counts=counts)))
    assert "in 1,700 places" in out
    assert "  ... and 1,699 more\n" in out
    assert "wg-quick down wg0 && wg-quick up wg0" in out


def test_a_netdev_has_its_own_words(run):
    found = drift(Difference(Kind.FWMARK, "", "0x1", "0x2"), Difference(Kind.MTU, "", "1400", "1420"), IPS, path=NETDEV)
    _, out, _ = run(row(found))
    for line in ("[WireGuard] and [NetDev]", "- FirewallMark = 0x1", "+ MTUBytes = 1420", "[WireGuardPeer] Anna's, "):
        assert f"  {line}" in out
    assert "networkctl delete wg0 && networkctl reload" in out


def test_names_from_outside_can_not_drive_the_terminal(run):
    found = [one._replace(name=HOSTILE, public_key=B) for one in (IPS, MISSING)]
    _, out, _ = run(row(drift(*found, others=(HOSTILE,), path=HOSTILE)))
    assert out.replace("\n", "").isprintable()


def test_json_is_what_the_document_says_with_the_commands(run):
    code, out, _ = run(row(drift(IPS)), row(None, "wg1"), arguments=["--json"])
    first, second = json.loads(out)["interfaces"]
    assert code == 1
    assert first["result"] == "drift"
    assert first["drift"]["counts"]["allowed_ips"] == 1
    assert first["drift"]["differences"] == [
        {
            "kind": "allowed_ips",
            "public_key": A,
            "name": "Anna's",
            "file": "10.0.0.1/32",
            "device": "10.0.0.1/32, 10.9.0.0/16",
        }
    ]
    assert first["load"] == ["wg addconf wg0 <(wg-quick strip wg0)"]
    assert (second["result"], second["drift"]) == ("no_file", None)


# How it ends.


@pytest.mark.parametrize(
    ("rows", "arguments", "code"),
    [
        ([row(drift())], [], 0),
        ([row(drift()), row(None, "wg1")], [], 0),
        ([row(drift()), row(None, "wg1")], ["wg1"], 2),
        ([row(drift(PORT)), failed("it hung up")], [], 1),
        ([row(drift(PORT)), row(drift(), "wg1")], ["wg1"], 0),
        ([row(drift()), failed("it hung up")], [], 2),
        ([row(drift()), gone()], [], 2),
        ([row(None)], [], 2),
        ([], [], 2),
        ([row(drift())], ["wg9"], 2),
        ([row(None, netns="blue")], [], 2),
    ],
)
def test_the_exit_code_says_whether_something_differs_and_whether_that_is_known(run, rows, arguments, code):
    assert run(*rows, arguments=arguments)[0] == code


def test_why_it_could_not_look_is_one_line(run):
    assert run(row(drift()), arguments=["wg9"])[2] == "Error: no WireGuard interface wg9; there is: wg0\n"
    assert run()[2].startswith("Error: no WireGuard device here; ")
    denied = host(outcomes=(outcome("it is locked", failure=Failure.DENIED),))
    assert reason_when_empty(denied, "drift").endswith("run: sudo wg-exporter drift")
    assert run(failed("it hung up"))[1] == "wg1: could not be read: it hung up.\n"


def test_a_file_that_can_not_be_read_is_not_one_that_is_not_there(run):
    line = f"{PATH}: permission denied; it gives no names"
    code, out, _ = run(row(None), problems=(line, "/etc/wireguard/wg1.conf: no"))
    assert (code, out) == (2, f"wg0: its file could not be read: {line}.\n")
    sources = (outcome("nothing could be read", source=SourceName.CONF),)
    assert run(row(None), outcomes=sources)[1] == "wg0: its file could not be read: nothing could be read.\n"


# Advice.


@pytest.mark.parametrize(
    ("difference", "command"),
    [
        (MISSING, "wg addconf wg0 <(wg-quick strip wg0)"),
        (PORT, "wg addconf wg0 <(wg-quick strip wg0)"),
        (EXTRA, f"wg set wg0 peer {C} remove"),
        (Difference(Kind.KEEPALIVE, A, "off", "25"), f"wg set wg0 peer {A} persistent-keepalive off"),
        (Difference(Kind.KEEPALIVE, A, "25", "off"), "wg addconf wg0 <(wg-quick strip wg0)"),
        (Difference(Kind.PRESHARED_KEY, A, "", "set"), f"wg set wg0 peer {A} preshared-key /dev/null"),
        (Difference(Kind.PRESHARED_KEY, A, "set", ""), "wg addconf wg0 <(wg-quick strip wg0)"),
        (Difference(Kind.MTU, "", "1400", "1420"), "ip link set dev wg0 mtu 1400"),
        (Difference(Kind.ADDRESS, "", "10.0.0.1/24", ""), "ip address add 10.0.0.1/24 dev wg0"),
    ],
)
def test_each_kind_has_its_command(difference, command):
    assert to_load(drift(difference), "wg0", Backend.KERNEL) == [command]


def test_syncconf_is_never_advised():
    """It would take the key and the mark away that a file leaves to a hook or to wg-quick."""
    for kind in Kind:
        assert "syncconf" not in " ".join(to_load(drift(Difference(kind, A, "1", "2")), "wg0", None))


def test_advice_takes_the_tools_of_the_device_the_file_where_it_is_and_quotes():
    found = drift(MISSING, path="/srv/o'clock/wg0.conf")
    assert to_load(found, "wg0", Backend.AMNEZIAWG) == [
        "awg addconf wg0 <(awg-quick strip '/srv/o'\\''clock/wg0.conf')"
    ]
    assert to_keep(drift(PORT, saved=True), "wg0", None).startswith("wg-quick save wg0 ")


def test_more_commands_than_anybody_copies_are_one():
    extra = [EXTRA._replace(public_key=key(n)) for n in range(MOST_COMMANDS)]
    assert len(to_load(drift(*extra), "wg0", None)) == MOST_COMMANDS
    (only,) = to_load(drift(*extra, MISSING), "wg0", None)
    assert only.startswith("wg-quick down wg0 && wg-quick up wg0 ")


# Elsewhere.


def test_show_says_which_interfaces_differ_and_how_to_see_where():
    shown = text(host(row(drift(PORT, EXTRA)), row(drift(), "wg1")), 200)
    assert f"! wg0 differs from {PATH} in 2 places: wg-exporter drift wg0\n" in shown
    assert "wg1 differs" not in shown


# The document.


def test_drift_comes_back_from_the_document_as_it_was():
    found = drift(PORT, IPS, EXTRA, saved=True, hooked=True, others=("/x",))
    overview = host(row(found))
    (back,) = decode(document.encode(overview._replace(teller=Teller("1", "gw1", "", NOW)))).devices
    named = tuple(one._replace(name="Anna's") if one.public_key == A else one for one in found.differences)
    assert back.drift == found._replace(differences=named)


@pytest.mark.parametrize(
    ("endpoints", "said"),
    [("full", ("vpn:1", "192.0.2.1:2")), ("address", ("vpn", "192.0.2.1")), ("off", (None, None))],
)
def test_endpoints_are_told_to_strangers_as_the_configuration_wants_it(endpoints, said):
    overview = host(row(drift(Difference(Kind.ENDPOINT, A, "vpn:1", "192.0.2.1:2"), PORT)))
    found = json.loads(document.encode(overview, endpoints=endpoints))["devices"][0]["drift"]["differences"]
    assert [(one["file"], one["device"]) for one in found] == [said, ("51820", "51821")]
