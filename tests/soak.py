"""An exporter that is scraped every second, while everything around it changes, is killed and comes back.

200 peers on four devices of wireguard-go, and a tunnel that is probed, whose far end has a host name. At random, by a
seed: peers come and go, a device is removed and made anew, a daemon is killed, the configuration is read again, a wrong
one too, and the processes that read, that probe and that look names up are killed (when one of the others is, all end:
test_privsep.py). After each of these everything has to be right again within seconds. In the end there are no more
files and threads than at the beginning, and hardly more memory.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import signal
import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.lab import SOCKETS, eventually, start_exporter, tunnel
from tests.lab.exporting import dump, scrape, served
from tests.lab.names import dns_server, resolv_conf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab import Exporter, Lab, WireGuard
    from tests.lab.exporting import Metrics, Series
    from tests.lab.names import DnsServer

DEVICES, PEERS = 4, 50
SPOKE, ELSEWHERE = "192.0.2.2", "192.0.2.99"  # where the name of the far end leads; the first is true
RIGHT_AGAIN = 30.0  # seconds
KILLED_EVERY = 80.0  # seconds: one that dies again within a minute is left alone for longer and longer
FIRST, LAST = 0.3, 0.3  # of all samples, between which memory is compared
LARGEST = 30.0  # MB by which memory may grow
# What only the exporter counts, so that it begins anew with the exporter alone.
OWN = (
    "wireguard_peer_handshakes_total",
    "wireguard_peer_state_changes_total",
    "wireguard_peer_down_seconds_total",
    "wireguard_probe_sent_total",
    "wireguard_probe_lost_total",
    "wireguard_probe_rtt_seconds_count",
)


class Held(NamedTuple):
    """What the exporter holds, all its processes together: megabytes (PSS), open files, threads."""

    memory: float
    files: int
    threads: int


def held(exporter: Exporter) -> Held:
    """As of now."""
    memory, files, threads = 0.0, 0, 0
    for pid in exporter.processes().values():
        directory = Path(f"/proc/{pid}")
        memory += int((directory / "smaps_rollup").read_text().split("\nPss:")[1].split()[0]) / 1024
        files += sum(1 for _ in (directory / "fd").iterdir())
        threads += sum(1 for _ in (directory / "task").iterdir())
    return Held(memory, files, threads)


class Scraper:
    """Scrapes every second, and keeps what must never be seen: a counter that goes back, an answer other than 200."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._done = threading.Event()
        self._last: dict[Series, float] = {}
        self.scrapes = 0
        self.wrong: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._done.wait(1.0):
            try:
                self._look(scrape(self._exporter))
            except (OSError, AssertionError) as error:
                self.wrong.append(f"scrape {self.scrapes}: {type(error).__name__}: {error}"[:300])
            self.scrapes += 1

    def _look(self, metrics: Metrics) -> None:
        now = {series: value for series, value in metrics.series.items() if series[0] in OWN}
        for series, value in now.items():
            if value < self._last.get(series, value):
                self.wrong.append(f"scrape {self.scrapes}: {series} from {self._last[series]} to {value}")
        self._last = now


class Soak:
    """The network, the exporter, and what happens to both."""

    def __init__(self, lab: Lab, directory: Path, seed: int) -> None:
        self._lab, self._directory = lab, directory
        self._random = random.Random(seed)
        self._pair = tunnel(lab)
        self._pair.ping()
        self._hub = self._pair.hub.namespace
        self._devices: dict[str, WireGuard] = {}
        for number in range(DEVICES):
            self._make(f"d{number}")
        self._config = directory / "soak.yml"
        self._right = (
            f'interfaces: {{include: ["{lab.prefix}d*", {self._pair.hub.name}]}}\nnames: [{self._pair.hub.conf}]\n'
            f'peers: [{{public_key: "{self._pair.spoke_keys.public}", probe: true}}]\n'
        )
        self._config.write_text(self._right)
        self._conf = self._pair.hub.conf.read_text()
        self._name, self._leads_to = "", ""
        self._dns: DnsServer
        self.happened: list[str] = []

    def run(self, seconds: float) -> tuple[list[Held], list[str]]:
        """For about so long. What the exporter held after each thing that happened, and what went wrong."""
        found: list[Held] = []
        with contextlib.ExitStack() as stack:
            self._dns = stack.enter_context(dns_server(self._pair.spoke.namespace, SPOKE))
            stack.enter_context(resolv_conf(self._hub, SPOKE))
            self._rename(SPOKE)
            exporter = stack.enter_context(
                start_exporter(directory=self._directory, config=self._config, namespace=self._hub)
            )
            self._until_right(exporter)
            with Scraper(exporter) as scraper:
                end, kill_at = time.monotonic() + seconds, 0.0
                while time.monotonic() < end:
                    killed = time.monotonic() >= kill_at
                    kill_at = time.monotonic() + KILLED_EVERY if killed else kill_at
                    everything = self._everything(killed=killed)
                    for happens in self._random.sample(everything, len(everything)):
                        self.happened.append(happens.__name__)
                        happens(exporter)
                        self._until_right(exporter)
                    found.append(held(exporter))
            assert scraper.scrapes > seconds / 4
            zombies = [pid for pid in exporter.processes().values() if _state(pid) == "Z"]
            return found, scraper.wrong + [f"{len(zombies)} zombies"] * bool(zombies)

    def _everything(self, *, killed: bool) -> list[Callable[[Exporter], None]]:
        """All that happens once in a round; also to the exporter's own processes, if they are `killed`."""
        usual = [
            self.peers_come,
            self.peers_go,
            self.a_device_is_made_anew,
            self.a_daemon_is_killed,
            self.the_configuration_is_read_again,
            self.a_wrong_configuration_is_read,
        ]
        kills = [self.the_reader_is_killed, self.the_prober_is_killed, self.the_resolver_is_killed]
        return usual + kills * killed

    # What happens

    def peers_come(self, _exporter: Exporter) -> None:
        device = self._one()
        device.namespace.run(["wg", "addconf", device.name, "/dev/stdin"], stdin=self._peers(5))

    def peers_go(self, _exporter: Exporter) -> None:
        device = self._one()
        for peer in dump(device).peers[:5]:
            device.namespace.run(["wg", "set", device.name, "peer", peer.public_key, "remove"])

    def a_device_is_made_anew(self, _exporter: Exporter) -> None:
        name = self._random.choice(list(self._devices))
        device = self._devices.pop(name)
        self._hub.ip("link", "delete", device.name)
        assert device.process is not None
        device.process.wait(30)
        self._make(name)

    def a_daemon_is_killed(self, exporter: Exporter) -> None:
        """And what it leaves behind: its control socket."""
        name = self._random.choice(list(self._devices))
        device = self._devices.pop(name)
        assert device.process is not None
        device.process.kill()
        device.process.wait(30)
        eventually(
            lambda: not scrape(exporter).all("wireguard_peer_receive_bytes_total", interface=device.name), within=30
        )
        (SOCKETS / f"{device.name}.sock").unlink()
        self._make(name)

    def the_configuration_is_read_again(self, exporter: Exporter) -> None:
        self._config.write_text(self._right + f"# {self._random.random()}\n")
        self._reloaded(exporter, 1)

    def a_wrong_configuration_is_read(self, exporter: Exporter) -> None:
        self._config.write_text("no such key: 1\n")
        self._reloaded(exporter, 0)
        self._config.write_text(self._right)
        self._reloaded(exporter, 1)

    def the_reader_is_killed(self, exporter: Exporter) -> None:
        _kill(exporter, "wg-read")

    def the_prober_is_killed(self, exporter: Exporter) -> None:
        _kill(exporter, "wg-probe")

    def the_resolver_is_killed(self, exporter: Exporter) -> None:
        """And the far end is called something else, so that the next resolver has a question to answer."""
        _kill(exporter, "wg-dns")
        self._rename(self._random.choice([SPOKE, ELSEWHERE]))

    # How it is

    def _rename(self, leads_to: str) -> None:
        """The file gets another name for the far end, which leads to this address."""
        self._name, self._leads_to = f"spoke-{self._random.randrange(10**9)}.test", leads_to
        self._dns.names[self._name] = [leads_to]
        self._pair.hub.conf.write_text(f"{self._conf}Endpoint = {self._name}:51820\n")

    def _reloaded(self, exporter: Exporter, well: int) -> None:
        name = "wireguard_exporter_config_last_reload_successful"
        exporter.reload()
        eventually(lambda: scrape(exporter).one(name) == well, within=30, every=0.2)

    def _until_right(self, exporter: Exporter) -> None:
        """Every device is told of as `wg` shows it, the tunnel is probed and answers, and its name was looked up."""
        deadline = time.monotonic() + RIGHT_AGAIN
        while problem := self._problem(exporter):
            if time.monotonic() > deadline:
                after = self.happened[-1] if self.happened else "the start"
                raise AssertionError(f"{RIGHT_AGAIN:g} s after {after}: {problem}\n{exporter.log()[-3000:]}")
            time.sleep(0.3)

    def _problem(self, exporter: Exporter) -> str:
        metrics = scrape(exporter)
        unread = [labels for labels, value in metrics.all("wireguard_exporter_source_success") if value != 1]
        if unread:
            return f"not read: {unread}"
        probes = metrics.all("wireguard_probe_up")
        if [value for _, value in probes] != [1]:
            return f"probes: {probes}"
        if problem := self._wrong_name(metrics):
            return problem
        there = {labels["interface"] for labels, _ in metrics.all("wireguard_interface_info")}
        if there != {self._pair.hub.name, *(device.name for device in self._devices.values())}:
            return f"devices: {sorted(there)}"
        for device in self._devices.values():
            ours, theirs = served(metrics, device.name), dump(device)
            if ours != theirs:
                rows = set(ours.peers) ^ set(theirs.peers)
                return f"{device.name}: {len(ours.peers)} peers, {len(theirs.peers)} by wg; {sorted(rows)[:4]}"
        return ""

    def _wrong_name(self, metrics: Metrics) -> str:
        told = metrics.all("wireguard_peer_endpoint_dns_info")
        moved = [value for _, value in metrics.all("wireguard_peer_endpoint_dns_mismatch")]
        found = [(labels["host"], labels["resolves_to"]) for labels, _ in told], moved
        moved_away = self._leads_to != SPOKE
        wanted = [(self._name, self._leads_to)] * moved_away, [float(moved_away)]
        return "" if found == wanted else f"host names: {found}, not {wanted}"

    def _one(self) -> WireGuard:
        return self._devices[self._random.choice(list(self._devices))]

    def _make(self, name: str) -> None:
        key = self._random.randbytes(32)
        conf = f"[Interface]\nPrivateKey = {base64.b64encode(key).decode()}\n{self._peers(PEERS)}"
        self._devices[name] = self._lab.wireguard(self._hub, name, conf)

    def _peers(self, number: int) -> str:
        keys = [base64.b64encode(self._random.randbytes(32)).decode() for _ in range(number)]
        return "".join(f"[Peer]\nPublicKey = {key}\nAllowedIPs = {self._address()}/32\n" for key in keys)

    def _address(self) -> str:
        return f"10.{self._random.randrange(64, 128)}.{self._random.randrange(256)}.{self._random.randrange(256)}"


def grown(found: list[Held]) -> list[str]:
    """What there is more of at the end than at the beginning, once it has all happened twice."""
    early = found[2 : max(3, int(len(found) * FIRST)) + 1]
    late = found[-max(1, int(len(found) * LAST)) :]
    wrong = []
    for name, most in (("memory", LARGEST), ("files", 4), ("threads", 2)):
        before, after = (statistics.median(getattr(one, name) for one in part) for part in (early, late))
        if after > before + most:
            wrong.append(f"{name} from {before:g} to {after:g}")
    return wrong


def _kill(exporter: Exporter, name: str) -> None:
    """proc(5): while others are started or end, the list of children may lack some."""
    os.kill(eventually(lambda: exporter.processes().get(name), within=30), signal.SIGKILL)


def _state(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def soak(lab: Lab, directory: Path, seconds: float, seed: int) -> Iterator[str]:
    """Everything that went wrong."""
    story = Soak(lab, directory, seed)
    found, wrong = story.run(seconds)
    yield from wrong
    yield from grown(found) if len(found) > 4 else ()
