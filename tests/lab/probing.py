"""The prober of the program on the peers of a lab, in the test's own thread.

    with Probing(Aim(path)) as probing:
        assert probing.settled().verdict is Verdict.OK

What the program does around it is done here with the tools that everyone trusts: the rows come from `ip`, the byte
counters from `wg`.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from wg_exporter.config import ProbeSettings
from wg_exporter.probed import ProbePeer
from wg_exporter.prober.driver import Prober
from wg_exporter.remote.prober.known import Known

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from tests.lab.paths import Path
    from wg_exporter.model import PeerKey
    from wg_exporter.probed import MtuReport, Probed
    from wg_exporter.prober.mtu.verdict import Findings
    from wg_exporter.prober.transport import Tap

COUNTERS = 0.4  # seconds between readings of the byte counters
CALM = 0.3  # seconds for which nothing is under way before it counts as settled


class Aim:
    """A path's peer as it is to be probed; `fields` are those of `ProbePeer`."""

    def __init__(self, path: Path, target: str = "", **fields: object) -> None:
        self.path = path
        self.target = target or path.target(path.inner[0])
        self.fields = fields

    def row(self) -> ProbePeer:
        """With the interface as it is now."""
        path = self.path
        (link,) = json.loads(path.a.ip("-j", "address", "show", path.near.name))
        row = ProbePeer(
            key=(path.a.name, path.near.name, path.far_keys.public),
            ifindex=link["ifindex"],
            mtu=link["mtu"],
            target=self.target,
            ipv6_inside=any(address["family"] == "inet6" for address in link["addr_info"]),
            endpoint=path.endpoint,
            fwmark=path.fwmark,
            underlay=path.a.name,
            roams=False,
            interval=5.0,
        )
        return row._replace(**self.fields)


class Probing:
    """Probes while one of its methods is called."""

    def __init__(self, *aims: Aim, settings: ProbeSettings | None = None, tap: Tap | None = None) -> None:
        self._aims = {aim.row().key: aim for aim in aims}
        self._known = Known()
        self._counters_due = 0.0
        self._reader = ThreadPoolExecutor(1)  # starting `wg` takes longer than probes should wait
        self._reading: Future[dict[PeerKey, tuple[int, int]]] | None = None
        names = {aim.path.a.name for aim in aims}
        self.prober: Prober[PeerKey] = Prober(
            settings or ProbeSettings(), {name: f"/run/netns/{name}" for name in names}, tap=tap
        )
        self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown()
        self.prober.close()

    def refresh(self) -> None:
        """Tell the prober of the interfaces as they are now."""
        self.prober.update({key: aim.row() for key, aim in self._aims.items()})

    def run(self, seconds: float) -> None:
        """Probe for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._step(min(left, 0.1))

    def until(self, true: Callable[[], object], *, within: float) -> None:
        """Probe until something is true; fails with what is known after `within` seconds."""
        end = time.monotonic() + within
        while not true():
            assert time.monotonic() < end, f"not within {within:g} s: {self._known.probed}"
            self._step(0.05)

    def settled(self, place: int = 0, *, within: float = 60.0) -> MtuReport:
        """The report of one of the peers, once nothing is under way for any of them."""
        calm_since = time.monotonic()

        def calm() -> bool:
            nonlocal calm_since
            self._take()
            if any(self.prober.busy(key) or not self._report(key) for key in self._aims):
                calm_since = time.monotonic()
            return time.monotonic() >= calm_since + CALM

        self.until(calm, within=within)
        report = self._report(self._key(place))
        assert report
        return report

    def report(self, place: int = 0) -> MtuReport | None:
        """What is told of a peer's MTU now; None before the first verdict."""
        self._take()
        return self._report(self._key(place))

    def probed(self, place: int = 0) -> Probed:
        """What is told of a peer now."""
        self._take()
        return self._known[self._key(place)]

    def findings(self, place: int = 0) -> Findings:
        """What the verdict on a peer is drawn from."""
        return self.prober.findings(self._key(place))

    def search(self) -> None:
        """Look at everything anew."""
        for key in self._aims:
            self.prober.search(key)

    def ask_silent(self) -> None:
        """Start the trials with a silent peer."""
        self.prober.ask_silent(self._key(0))

    def hop(self) -> str:
        """The router behind which it shrinks, looked for now; empty if none was found."""
        self.prober.find_hop(self._key(0))
        self.settled()
        shrink = self.prober.shrink(self._key(0))
        return shrink.hop if shrink else ""

    def _key(self, place: int) -> PeerKey:
        return list(self._aims)[place]

    def _report(self, key: PeerKey) -> MtuReport | None:
        known = self._known.probed.get(key)
        return known.mtu if known else None

    def _take(self) -> None:
        self._known.take(*self.prober.changes(1000))

    def _step(self, longest: float) -> None:
        if self._reading is None and time.monotonic() >= self._counters_due:
            self._counters_due = time.monotonic() + COUNTERS
            self._reading = self._reader.submit(self._counters)
        elif self._reading is not None and self._reading.done():
            self.prober.counters(self._reading.result())
            self._reading = None
        self.prober.step(longest)

    def _counters(self) -> dict[PeerKey, tuple[int, int]]:
        return {key: aim.path.near.transfer()[key[2]] for key, aim in self._aims.items()}
