"""The watcher of the program on a peer of a lab, in the test's own thread.

with Watching(path) as watching:
    watching.while_(lambda: path.ping(path.target()))
    assert watching.row.answered == 1
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, TypeVar

from tests.lab.paths import PORT
from wg_exporter.prober.driver import Prober
from wg_exporter.sighted import WatchPeer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.paths import Path
    from wg_exporter.cli.netlab import Namespace
    from wg_exporter.model import DeviceKey
    from wg_exporter.sighted import Caller, Sighting

T = TypeVar("T")

UNTOLD = 0.3  # seconds in which whatever was seen is read


class Watching:
    """Looks while one of its methods is called; `rows` and `callers` are what it told last."""

    def __init__(self, path: Path, *peers: WatchPeer) -> None:
        """The peers are 1, 2, ...; without any, the near device's of the path."""
        self.peers = peers or (near(path),)
        self.rows: dict[int, Sighting] = {}
        self.callers: dict[DeviceKey, tuple[Caller, ...]] = {}
        self.prober: Prober[int] = Prober(namespaces={path.a.name: f"/run/netns/{path.a.name}"})
        self.watcher = self.prober.watcher

    def __enter__(self) -> Self:
        self.watcher.watch({number: (peer, 600.0) for number, peer in enumerate(self.peers, 1)}, time.monotonic())
        assert not self.watcher.problem
        self.step(UNTOLD)  # what leaves is looked at a moment later
        return self

    def __exit__(self, *_: object) -> None:
        self.prober.close()

    def while_(self, work: Callable[[], T]) -> T:
        """Look while this is done, and a moment longer. Returns what it returns."""
        with ThreadPoolExecutor(1) as pool:
            doing = pool.submit(work)
            while not doing.done():
                self.step(0.02)
            self.step(UNTOLD)
            return doing.result()

    def step(self, seconds: float) -> None:
        """Look for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.prober.step(0.02)
            looked = self.watcher.changes(1000, time.monotonic())
            self.rows |= looked.rows
            self.callers |= {one.device: one.callers for one in looked.callers}

    def until(self, true: Callable[[], object], within: float = 60.0) -> None:
        """Look until something is true."""
        end = time.monotonic() + within
        while not true():
            assert time.monotonic() < end, self.rows
            self.step(0.05)

    @property
    def row(self) -> Sighting:
        """The sighting of the first peer."""
        return self.rows[1]


def near(path: Path, **changes: object) -> WatchPeer:
    """The peer of the near device, as it is to be watched."""
    host = f"[{path.endpoint}]" if ":" in path.endpoint else path.endpoint
    key = (path.a.name, path.near.name, path.far_keys.public)
    row = WatchPeer(key, path.a.name, f"{host}:{PORT}", PORT, path.near_keys.public)
    return row._replace(**changes)


def rule(namespace: Namespace, hook: str, text: str, family: str = "inet", device: str = "") -> None:
    """A rule of nftables at this hook; `device` for the hooks of family netdev."""
    at = f"device {device} " if device else ""
    script = f"add table {family} fault\n"
    script += f"add chain {family} fault {hook} {{ type filter hook {hook} {at}priority 0; }}\n"
    namespace.run(["nft", "-f", "-"], stdin=f"{script}add rule {family} fault {hook} {text}\n")
