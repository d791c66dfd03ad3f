"""The prober as ticks and scrapes have it, also where there is none, and without the peers whose probes are paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.daemon.pauses import PauseError, Pauses
from wg_exporter.daemon.prober import read_counters
from wg_exporter.log import Log

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wg_exporter.config import Config
    from wg_exporter.daemon.prober import Prober
    from wg_exporter.model import DeviceKey, Snapshot, Usage
    from wg_exporter.plan.planner import Plan
    from wg_exporter.probed import Probed


class Probes:
    """What is sent to peers, and what came of it."""

    def __init__(self, prober: Prober | None) -> None:
        self._prober = prober
        self._pauses = Pauses()
        self._log = Log(__name__)
        self.delay: float | None = None
        """The worst delay of a probe between the last two ticks, in seconds; None = not known."""

    def __bool__(self) -> bool:
        return self._prober is not None

    def configure(self, config: Config) -> None:
        """Probe as this configuration says. If it raises, nothing has changed."""
        if self._prober is not None:
            self._prober.configure(config)

    def tell(self, plan: Plan, snapshot: Snapshot) -> None:
        """Say whom to probe, and what their byte counters are."""
        if self._prober is None:
            return
        self.delay = self._prober.scheduling_delay()
        self._prober.set_peers(self._pauses.apply(plan.peers, snapshot.monotonic))
        self._prober.counters(read_counters(snapshot, {peer.key for peer in plan.peers}))

    def results(self) -> Mapping[DeviceKey, Mapping[str, Probed]]:
        """What is known, by device and public key."""
        return self._prober.results() if self._prober is not None else {}

    def pause(self, asked: Mapping[str, str], now: float) -> str:
        """Do as a request to pause probes says, from the next `tell` on. Empty if it is done, else one line why not."""
        try:
            netns, interface, public_key = self._pauses.ask(asked, now, self.results())
        except PauseError as error:
            return str(error)
        seconds = asked["seconds"]
        self._log.info("probing paused", interface=interface, netns=netns, public_key=public_key, seconds=seconds)
        return ""

    def usages(self) -> Sequence[Usage]:
        """What the prober's process has cost the host."""
        return self._prober.usages() if self._prober is not None else ()

    def stop(self) -> None:
        """End the prober."""
        if self._prober is not None:
            self._prober.stop()
