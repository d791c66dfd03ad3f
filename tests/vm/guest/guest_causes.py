"""A whole exporter over the kernel's own WireGuard, whose tunnels are broken in many ways at once: what each is called,
and why. A shorter telling of tests/test_causes_lab.py, with what the kernel does in another way: it counts what its own
output filter then drops, and nothing without a route, and hands messages to its socket before the socket has them.

It runs on one kernel (`ONCE` of tests/test_vm.py), as it takes four minutes. WireGuard counts the same in all of them,
and what follows from its counters is tested without a kernel (tests/test_causes.py, tests/test_exporter_causes.py).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab import eventually, keypair, start_exporter
from tests.lab.hub import HubDevice, Plan, config_of_hosts
from tests.vm.guest.build import sh
from tests.vm.guest.serving import Metrics
from wg_exporter.cli.netlab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.lab import Exporter, Namespace

PATIENCE = 400.0  # seconds; everything is slow here, and slower beside other tests
CAUSES = {
    "heavy": "output_filtered",
    "lost": "no_route",
    "flood": "responses_lost",
    "stale": "old_key",
    "deaf": "input_filtered",
    "shared": "preshared_key",
}
SESSION_ENDS = 150.0  # seconds after the fault, at the earliest: then nobody can send data any more
ALONE = ("deaf", "shared")  # on hosts where nothing else arrives, or what arrives could not be compared with it


class Told(NamedTuple):
    """What was told of a site: its state and reason at the end, and every cause that it ever had, with the seconds
    from the fault.
    """

    state: str
    reason: str
    causes: dict[str, float]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Told]]:
    sh("modprobe wireguard; modprobe veth; modprobe nf_tables; ip link set lo up")
    directory = tmp_path_factory.mktemp("causes")
    with Lab("wgc-", directory / "lab", kernel=True) as lab:
        hub = lab.namespace("hub")
        main = HubDevice(lab, hub, "main", 0, [Plan(name) for name in ("well", *CAUSES) if name not in ALONE])
        alone = {name: HubDevice(lab, lab.namespace(f"{name}hub"), f"{name}h", 1, [Plan(name)]) for name in ALONE}
        config = config_of_hosts([main, *alone.values()])
        with start_exporter(directory=directory, config=config, patience=PATIENCE) as exporter:
            sites = {**main.sites, **alone["deaf"].sites, **alone["shared"].sites}
            eventually(lambda: _all_answer(exporter, len(sites)), within=PATIENCE, every=1)
            _break(lab, hub, main, alone)
            told = _follow(exporter, list(sites))
            print(exporter.get("/api/v1/status").text, exporter.log(), sep="\n")
            yield told
            assert "Traceback" not in exporter.log()


def _break(lab: Lab, hub: Namespace, main: HubDevice, alone: dict[str, HubDevice]) -> None:
    at = {name: f"198.18.0.{number * 4 + 2}" for number, name in enumerate(main.sites, 2)}
    _rule(hub, "output", f"ip daddr {at['heavy']} udp dport 51820 drop")
    hub.ip("route", "add", "unreachable", f"{at['lost']}/32")
    heavy, flood, stale = (main.sites[name] for name in ("heavy", "flood", "stale"))
    # Bulk data: more than a full packet a second, which hides the sizes by which counters tell handshakes.
    for namespace, to in ((hub, heavy.address), (flood.namespace, "10.77.0.1")):
        lab.start(["ping", "-n", "-q", "-i", "0.05", "-s", "1200", to], log="bulk", namespace=namespace)
    flood.firewall()
    near = at["stale"].rpartition(".")[0] + f".{int(at['stale'].rpartition('.')[2]) - 1}:51820"
    wrong = ["peer", keypair().public, "endpoint", near, "persistent-keepalive", "5", "allowed-ips", "10.77.0.0/24"]
    stale.namespace.run(["wg", "set", stale.device.name, "peer", main.keys.public, "remove", *wrong])
    _rule(alone["deaf"].device.namespace, "input", "udp sport 51820 drop")
    shared = alone["shared"].sites["shared"]
    other = ["peer", alone["shared"].keys.public, "preshared-key", "/dev/stdin"]
    shared.namespace.run(["wg", "set", shared.device.name, *other], stdin=keypair().private)
    main.forget_session("stale")
    for name, device in alone.items():
        device.forget_session(name)


def _rule(namespace: Namespace, hook: str, rule: str) -> None:
    chain = f" chain {hook} {{\n type filter hook {hook} priority 0;\n {rule}\n }}\n"
    namespace.run(["nft", "-f", "-"], stdin=f"table inet cut {{\n{chain}}}\n")


def _follow(exporter: Exporter, sites: list[str]) -> dict[str, Told]:
    """What is told of each site, until each that is broken has its cause, and every cause on the way there."""
    broke = time.monotonic()
    causes: dict[str, dict[str, float]] = {name: {} for name in sites}
    while True:
        told = dict(zip(sites, _told(exporter, sites), strict=True))
        for name, one in told.items():
            for cause in one.causes:
                causes[name].setdefault(cause, time.monotonic() - broke)
        named = all(cause in told[name].causes for name, cause in CAUSES.items())
        if named or time.monotonic() > broke + PATIENCE:
            return {name: one._replace(causes=causes[name]) for name, one in told.items()}
        time.sleep(2)


def _all_answer(exporter: Exporter, number: int) -> bool:
    """Whether so many peers are up, and have answered an echo: without that their silence proves less."""
    shown = Metrics(exporter.get("/metrics").text)
    up = (shown.all("wireguard_peer_state", state="up"), shown.all("wireguard_probe_up"))
    return all(sum(value for _, value in found) == number for found in up)


def _told(exporter: Exporter, sites: Iterable[str]) -> list[Told]:
    shown = Metrics(exporter.get("/metrics").text)

    def label(metric: str, label: str, site: str) -> str:
        found = shown.all(f"wireguard_peer_{metric}", peer=site)
        return next((labels[label] for labels, value in found if value), "")

    return [
        Told(
            label("state", "state", site),
            label("reason", "reason", site),
            {cause: 0.0} if (cause := label("cause", "cause", site)) else {},
        )
        for site in sites
    ]


def called(story: dict[str, Told], site: str) -> tuple[str, str, list[str]]:
    """How a site is called: its state, its reason, and all causes that it ever had."""
    told = story[site]
    print(site, told)
    return told.state, told.reason, list(told.causes)


def test_what_the_kernel_counts_and_its_output_filter_drops_is_not_sent_under_bulk_data_too(
    story: dict[str, Told],
) -> None:
    assert called(story, "heavy") == ("down", "not_sent", ["output_filtered"])


def test_without_a_route_nothing_is_sent_and_the_route_is_named(story: dict[str, Told]) -> None:
    assert called(story, "lost") == ("down", "not_sent", ["no_route"])


def test_a_peer_that_hears_nothing_is_down_under_its_own_bulk_data(story: dict[str, Told]) -> None:
    assert called(story, "flood") == ("down", "one_way", ["responses_lost"])
    assert story["flood"].causes["responses_lost"] < SESSION_ENDS


def test_a_far_side_with_another_key_of_ours_is_named(story: dict[str, Told]) -> None:
    assert called(story, "stale") == ("down", "handshake_unanswered", ["old_key"])


def test_an_input_filter_is_told_from_preshared_keys_that_differ(story: dict[str, Told]) -> None:
    assert called(story, "deaf") == ("down", "handshake_unanswered", ["input_filtered"])


def test_preshared_keys_that_differ_are_told_from_an_input_filter(story: dict[str, Told]) -> None:
    assert called(story, "shared") == ("down", "handshake_unanswered", ["preshared_key"])


def test_the_tunnel_that_works_has_no_cause(story: dict[str, Told]) -> None:
    assert called(story, "well") == ("up", "", [])
