"""A real WireGuard network to look at, on a host that has none: `wg-exporter demo`.

    office (healthy) ---\\
    backup (idle)    ----- hub <- the exporter reads this one
    branch (dead)    ---/
    laptop (never came)

Every host of the demo is a network namespace, every line a cable with a WireGuard tunnel over it; nothing touches the
network of the real host. The four peers of the hub are the four cases that have to be told apart: traffic flows;
nothing is sent, and nothing is wrong; we send, and nothing comes back; it never connected.

Where Prometheus and Alertmanager are installed they run too, with the shipped rules, and the office is cut off now and
then (`alerting`, `outages`).

The network is a `Lab`, so all of it can be removed at any time, even what a killed demo left. A lock on the directory
in /run keeps one demo from removing another that is alive.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.cli.demo import alerting
from wg_exporter.cli.demo.outages import Outages
from wg_exporter.cli.netlab import DeniedError, Keys, Lab, LabError, Namespace, WireGuard, keypair, missing

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "wgdemo-"
DIRECTORY = Path("/run/wg-exporter-demo")
HANDSHAKE_TIMEOUT = 10.0  # seconds; a handshake takes milliseconds, and is retried after 5 s if a packet is lost
KEEPALIVE_TO_BRANCH = 5  # seconds: short, so that the branch is soon seen to answer nothing


class DemoError(Exception):
    """The demo can't run; the message says what is missing and how to get it, one line each."""


class DemoPlan(NamedTuple):
    """A running demo: the configuration for an exporter that shows it, and where the hub's device is."""

    config_path: Path
    netns: str
    interface: str
    backend: str

    @property
    def socket(self) -> Path:
        """Where the exporter is to be asked; it goes with the network."""
        return self.config_path.with_name("http.sock")


class Site(NamedTuple):
    """One host that dials the hub: its friendly name, and the last number of its address inside the tunnel."""

    name: str
    number: int

    @property
    def address(self) -> str:
        """Inside the tunnel."""
        return f"10.86.0.{self.number}"

    @property
    def cable(self) -> tuple[str, str]:
        """The addresses of the cable, at the hub and at this site (TEST-NET-1, RFC 5737)."""
        return f"192.0.2.{4 * self.number + 1}", f"192.0.2.{4 * self.number + 2}"


HUB_ADDRESS = "10.86.0.1"
OFFICE, BACKUP, BRANCH, LAPTOP = Site("office", 2), Site("backup", 3), Site("branch", 4), Site("laptop", 5)


class Demo:
    """The network, from `start` to `stop`. `stop` is safe at any time and after a `start` that failed."""

    def __init__(self, prefix: str = PREFIX, directory: Path = DIRECTORY) -> None:
        self._directory = directory
        self._lab = Lab(prefix, directory / "network")
        self._lock: int | None = None
        self._outages: Outages | None = None
        self._hosts: dict[Site, Namespace] = {}

    def start(self) -> DemoPlan:
        """Builds the network, in about a second. Raises DemoError."""
        if lacking := missing():
            raise DemoError("\n".join(lacking))
        try:
            self.clean_leftovers()
            return self._build()
        except (DeniedError, PermissionError) as error:
            raise DemoError(f"{error}; in a container it takes --privileged") from error
        except (LabError, OSError) as error:
            raise DemoError(str(error)) from error

    def clean_leftovers(self) -> None:
        """Removes what a killed demo left, and keeps others out until `stop`. Raises DemoError if one is alive."""
        self._take_lock()
        self._lab.close()

    def show_alerts(self, checkout: Path, target: str) -> str:
        """Starts Prometheus, Alertmanager and outages, if both are installed; returns what to tell the user.

        `checkout` has the shipped rules, `target` is where the exporter listens. Raises DemoError.
        """
        if lacking := alerting.missing(checkout):
            return lacking
        try:
            found = alerting.start(self._lab, checkout, target)
        except LabError as error:
            raise DemoError(str(error)) from error
        self._outages = Outages(
            lambda: self._cable(OFFICE, "down"), lambda: self._cable(OFFICE, "up"), lambda line: print(line, flush=True)
        )
        self._outages.start()
        return f"""\
Alerts: {found.prometheus} and {found.alertmanager}; the office is cut off in a minute, and every 7 minutes again"""

    def _cable(self, site: Site, state: str) -> None:
        self._hosts[site].ip("link", "set", "to-hub", state)

    def stop(self) -> None:
        """Removes processes, namespaces, sockets and files, if this demo has the lock, and gives the lock back."""
        if self._lock is None:
            return
        if self._outages is not None:
            self._outages.stop()
            self._outages = None
        self._lab.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        os.close(self._lock)
        self._lock = None

    def _take_lock(self) -> None:
        """Takes a lock on the directory itself. The kernel drops it with our process, however that ends."""
        while self._lock is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                raise DemoError(f"another demo is running, {self._owner()}; stop that one first") from None
            if self._is_current(handle):
                self._lock = handle
            else:  # a demo that was just ending removed the directory between our two calls
                os.close(handle)
        (self._directory / "pid").write_text(f"{os.getpid()}\n")

    def _is_current(self, handle: int) -> bool:
        try:
            return os.path.samestat(self._directory.stat(), os.fstat(handle))
        except FileNotFoundError:
            return False

    def _owner(self) -> str:
        try:
            return f"process {int((self._directory / 'pid').read_text())}"
        except (OSError, ValueError):
            return "just starting or ending"

    def _build(self) -> DemoPlan:
        lab = self._lab
        hub_keys = keypair()
        keys = {site: keypair() for site in (OFFICE, BACKUP, BRANCH, LAPTOP)}
        hub_host = lab.namespace("hub")
        hub = lab.wireguard(hub_host, "hub", _hub_conf(hub_keys, keys), [f"{HUB_ADDRESS}/24"])
        hosts = {site: self._build_site(site, hub_host, keys[site], hub_keys) for site in (OFFICE, BACKUP, BRANCH)}
        self._hosts = hosts

        for site, host in hosts.items():
            host.run(["ping", "-c", "1", "-W", "3", HUB_ADDRESS])
            _wait_for_handshake(hub, site, keys[site])
        self._cable(BRANCH, "down")
        lab.start(["ping", "-q", "-i", "0.5", HUB_ADDRESS], log="ping.log", namespace=hosts[OFFICE])

        config = lab.write("wg-exporter.yml", _exporter_config(hub))
        return DemoPlan(config, hub_host.name, hub.name, "wireguard-go" if hub.process else "kernel WireGuard")

    def _build_site(self, site: Site, hub_host: Namespace, keys: Keys, hub_keys: Keys) -> Namespace:
        host = self._lab.namespace(site.name)
        at_hub, here = site.cable
        self._lab.link(hub_host, host, f"{at_hub}/30", f"{here}/30")
        self._lab.wireguard(host, site.name, _site_conf(keys, hub_keys, at_hub), [f"{site.address}/24"])
        return host


def _hub_conf(hub: Keys, keys: dict[Site, Keys]) -> str:
    """The hub's file as people write it: an endpoint and a keepalive for sites that have to be up, else neither."""
    return f"""\
[Interface]
PrivateKey = {hub.private}
ListenPort = 51820

[Peer]
# friendly_name = office (healthy)
PublicKey = {keys[OFFICE].public}
AllowedIPs = {OFFICE.address}/32, 10.86.2.0/24
Endpoint = {OFFICE.cable[1]}:51820
PersistentKeepalive = 25

# backup (idle)
[Peer]
PublicKey = {keys[BACKUP].public}
AllowedIPs = {BACKUP.address}/32

[Peer]
# friendly_json = {{"name": "branch (dead)"}}
PublicKey = {keys[BRANCH].public}
AllowedIPs = {BRANCH.address}/32, 10.86.4.0/24
Endpoint = {BRANCH.cable[1]}:51820
PersistentKeepalive = {KEEPALIVE_TO_BRANCH}

### Client laptop (never connected)
[Peer]
PublicKey = {keys[LAPTOP].public}
AllowedIPs = {LAPTOP.address}/32
"""


def _site_conf(site: Keys, hub: Keys, hub_address: str) -> str:
    return f"""\
[Interface]
PrivateKey = {site.private}
ListenPort = 51820

[Peer]
PublicKey = {hub.public}
AllowedIPs = 10.86.0.0/16
Endpoint = {hub_address}:51820
"""


def _exporter_config(hub: WireGuard) -> str:
    return f"""\
# The hub of the demo, and nothing else of this machine.
interfaces:
  include: [{hub.name}]
namespaces:
  - {{name: demo, netns: {hub.namespace.name}}}
names: [{hub.conf}]
"""


def _wait_for_handshake(hub: WireGuard, site: Site, keys: Keys) -> None:
    deadline = time.monotonic() + HANDSHAKE_TIMEOUT
    while not hub.handshakes()[keys.public]:
        if time.monotonic() > deadline:
            raise LabError(f"{site.name}: no handshake with the hub after {HANDSHAKE_TIMEOUT:g} s")
        time.sleep(0.05)


def run(
    serve: Callable[[DemoPlan], int],
    url: str = "http://127.0.0.1:9586",
    demo: Demo | None = None,
    checkout: Path | None = None,
) -> int:
    """Builds the demo, calls `serve` with it, and removes everything when that returns.

    `serve` blocks until it is told to stop by SIGTERM or SIGINT, and returns the exit code. Before and after, these
    signals are handled here: one that comes while the network is built takes it down again, and one that comes
    while it is taken down changes nothing. To be called in the main thread. With a `checkout`, which has the
    shipped alert rules, alerts are shown too, if Prometheus and Alertmanager are there.
    """
    demo = demo or Demo()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # both raise KeyboardInterrupt
        plan = demo.start()
        print(_introduction(plan, url), flush=True)
        if checkout is not None:
            print(demo.show_alerts(checkout, url.removeprefix("http://")), flush=True)
        return serve(plan)
    except DemoError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        demo.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def _introduction(plan: DemoPlan, url: str) -> str:
    return f"""\
A hub with four peers over {plan.backend}: healthy, idle, dead, never connected.
Open {url}/ for the page of the exporter, {url}/metrics for its metrics.
In another terminal: {sys.argv[0]} show --socket {plan.socket}
To compare: ip netns exec {plan.netns} wg show {plan.interface}   (Ctrl-C here removes everything)"""
