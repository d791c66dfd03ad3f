"""The exporter as one object: sources, history, prober and writer, wired together and kept running.

`Exporter` is used by `serve`, `show` and `mtu`, and by the collector for other people's registries. Both a scrape and
the tick read the sources. A scrape only reads the history, the health and what the prober has found; the tick, every
`TICK_SECONDS`, drives them. What a configuration decides is in a `Setup`, so that a reload builds a new one and swaps
it; what must survive a reload is in the `Exporter`.
"""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from wg_exporter.config import Config, ConfigError
from wg_exporter.daemon.about import About
from wg_exporter.daemon.causes import SEARCH_SECONDS, Causes
from wg_exporter.daemon.changelog import ChangeLog
from wg_exporter.daemon.facts import Look, Places
from wg_exporter.daemon.host import HostHistory, Status
from wg_exporter.daemon.pauses import PauseError, Pauses
from wg_exporter.daemon.prober import read_counters, unjudged
from wg_exporter.daemon.processes import Processes
from wg_exporter.daemon.quiets import Quiets
from wg_exporter.daemon.setup import NoSourcesError, Setup, from_file
from wg_exporter.daemon.ticking import Ticker
from wg_exporter.daemon.watching import Watched
from wg_exporter.exposition import compat
from wg_exporter.exposition.samples import metrics, samples
from wg_exporter.health.states import State
from wg_exporter.health.summary import Summary, summary
from wg_exporter.log import Log, place
from wg_exporter.names.unmatched import told
from wg_exporter.sources import SYSTEM_CLOCK, Clock, StoppedError, with_unread
from wg_exporter.status import document
from wg_exporter.status.rows import Overview, from_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from wg_exporter.daemon.causes import Found
    from wg_exporter.daemon.prober import Prober
    from wg_exporter.exposition.parts import Sample
    from wg_exporter.exposition.view import View
    from wg_exporter.linux.storage import Storage
    from wg_exporter.model import DeviceKey, PeerKey, Snapshot, Usage
    from wg_exporter.plan.planner import Plan
    from wg_exporter.probed import Probed
    from wg_exporter.sources import OpenSources
    from wg_exporter.status.document import Document

T = TypeVar("T")

TICK_SECONDS = 5.0
SUSPECT_TICK_SECONDS = 1.0  # while a peer is suspicious

# The most unhealthy peers, and the most problems, that a status names.
STATUS_PEERS = 50
STATUS_PROBLEMS = 20


class Exporter:
    """Everything but HTTP. Thread-safe. `start` it, `scrape` it, `stop` it. It ticks every `every` seconds.

    `net_raw` says whether probes can be sent, None = as this process may. `read_config` reads the configuration again,
    or raises ConfigError. `costs` are those of other processes. `storage` is what survives a restart.

    If it is dropped without `stop`, there is a ResourceWarning, and its threads end.
    """

    _open = False  # until `__init__` is done

    def __init__(
        self,
        config: Config,
        config_path: Path | None,
        sources: OpenSources,
        clock: Clock = SYSTEM_CLOCK,
        *,
        every: float = TICK_SECONDS,
        prober: Prober | None = None,
        net_raw: bool | None = None,
        read_config: Callable[[Path], Config] = from_file,
        costs: Callable[[], Iterable[Usage]] = tuple,
        storage: Storage | None = None,
    ) -> None:
        self._clock = clock
        self._sources = sources
        self._every = every
        self._config_path = config_path
        self._log = Log(__name__)
        self._changelog = ChangeLog()
        self._history = HostHistory()
        self._prober = prober
        self._read_config = read_config
        self._costs = costs
        self._status = Status(clock.wall(), Summary(), ())
        self._snapshot: Snapshot | None = None  # of the last tick; most of it is in the history anyway
        self._took = 0.0  # of processor time by the last tick, in seconds
        self._delay: float | None = None  # of probes, the worst between the last two ticks
        self._processes = Processes()
        self._pauses = Pauses()
        self.watched = Watched(prober)
        self._causes, self._places = Causes(), Places()
        self.quiets = Quiets(clock, storage)
        self._about = About(config_path, clock.wall(), net_raw)
        self._setup = Setup(config, clock, sources)
        # For the names, the writers and the history, which are not thread-safe.
        self._lock = threading.Lock()
        self._reloading = threading.Lock()  # so that of two reloads the later one wins
        self._ticker = Ticker(self)
        self._open = True

    def __del__(self) -> None:
        if self._open:
            warnings.warn(f"{type(self).__name__} was dropped without being stopped", ResourceWarning, 2, source=self)
            self.stop()

    def start(self) -> None:
        """Begin to tick. After the first tick the exporter is ready."""
        self._ticker.start()

    def stop(self) -> None:
        """End the tick, the threads of the sources, and the prober."""
        self._open = False
        self._ticker.stop()
        self._setup.reader.stop()
        self.quiets.stop()
        if self._prober is not None:
            self._prober.stop()

    def wait_until_ready(self, timeout: float) -> bool:
        """Wait for the first tick, for at most `timeout` seconds. Returns whether there was one."""
        return self._ticker.wait(timeout)

    def ready(self) -> str:
        """Empty after the first tick, while anything can be read; else one line that says why not."""
        if not self._ticker.ticked:
            return "the WireGuard devices have not been read yet; try again in a moment"
        return self._setup.reader.problem

    @property
    def pause(self) -> float:
        """Seconds until the next tick. Additional ticks, while a peer is suspicious, take at most 5 % of a processor.

        What a tick waits for a source that hangs costs nothing, and must not delay the judgement of everybody else.
        """
        closer = max(SUSPECT_TICK_SECONDS, self._took * 20) if self._history.health.suspicious else self._every
        return min(closer, self._every)

    def status(self) -> Status:
        """How the host was at the last tick. Does not wait."""
        return self._status

    def allows_host(self, host: str) -> bool:
        """Whether a request with this header `Host` is answered."""
        return self._setup.config.web.allows(host)

    def name_of(self, key: PeerKey) -> str | None:
        """What a peer is called, as of the last tick; empty for an interface (no public key). None: there is none."""
        with self._lock:
            return self._history.name_of(key)

    def scrape(self, path: str, openmetrics: bool = False) -> list[bytes]:  # noqa: FBT001, FBT002
        """The chunks of one exposition: ours at the path "", those of others at "mindflavor" and "mdlayher"."""
        with self._looking() as (setup, snapshot):
            view = self._view(setup, snapshot)
            if path == "mindflavor":
                parts = compat.mindflavor(view, self._clock.wall(), setup.config.compat.mindflavor)
            elif path == "mdlayher":
                parts = compat.mdlayher(view)
            else:
                parts = metrics(view, self._processes.samples(self._usages(setup)))
            return setup.writers[path].write(parts, openmetrics=openmetrics)

    def overview(self, *, lines: bool = False) -> Overview:
        """Read everything, and say how the host is, by what the ticks have seen of it; `lines`: round trips too."""
        with self._looking() as (setup, snapshot):
            return self._overview(setup, snapshot, lines=lines)

    def document(self, *, private: bool, round_trips: bool = False) -> bytes:
        """The status document. For strangers (not `private`) it has the endpoints as `/metrics` has them."""
        found = self.overview(lines=round_trips)
        return document.encode(found, endpoints="full" if private else self._setup.config.metrics.endpoint)

    def last(self) -> Document | None:
        """The status document for strangers as of the last tick, with round trips; None before. Waits for no source."""
        with self._lock:
            setup, snapshot = self._setup, self._snapshot
            found = snapshot and self._overview(setup, snapshot, lines=True)
        return found and document.document(found, setup.config.metrics.endpoint)

    def pause_probes(self, asked: Mapping[str, str]) -> str:
        """Do as a request to pause probes says. Empty if it was done, else one line why not. Does not wait."""
        try:
            netns, interface, public_key = self._pauses.ask(asked, self._clock.monotonic(), self._probes())
        except PauseError as error:
            return str(error)
        seconds = asked["seconds"]
        self._log.info("probing paused", interface=interface, netns=netns, public_key=public_key, seconds=seconds)
        self._ticker.hurry()
        return ""

    def samples(self) -> list[Sample]:
        """All samples of `/metrics` but those of the process."""
        _snapshot, view, config = self.look()
        return [sample for sample in samples(view) if not config.metrics.excluded(sample.metric.name)]

    def look(self) -> tuple[Snapshot, View, Config]:
        """Read everything: the snapshot, what a scrape would show of it, and the configuration in use."""
        with self._looking() as (setup, snapshot):
            return snapshot, self._view_of_all(setup, snapshot), setup.config

    def observe(self) -> tuple[Snapshot, View, Config]:
        """As `look`, and drive the history and the health as a tick does: for `show --watch`, which has no ticks."""
        with self._looking() as (setup, snapshot):
            devices = self._history.follow(setup.names, snapshot)
            self._history.judge(setup.config, setup.names, devices, snapshot, self._probes())
            return snapshot, self._view_of_all(setup, snapshot), setup.config

    @contextmanager
    def _looking(self) -> Iterator[tuple[Setup, Snapshot]]:
        """What was just read, with the lock for what is made of it. After a reload in between it reads again."""
        while True:
            setup = self._setup
            try:
                snapshot = with_unread(setup.reader.read(), setup.config.interfaces.wanted)
            except StoppedError:
                if self._ticker.stopping:
                    raise
                continue
            with self._lock:
                if setup is self._setup:
                    yield setup, self._history.with_silent(setup.config, snapshot)
                    return

    def reload(self) -> str:
        """Read the configuration again. Returns its problems, one a line; then nothing has changed. Empty = in use.

        Raises nothing, as a caller that is a signal handler would not see it.
        """
        if self._config_path is None:
            problem = "no configuration file was given, so there is none to read again"
            self._log.warn("configuration not reloaded", problem=problem)
            return problem
        with self._reloading:
            try:
                self._reload(self._config_path)
            except ConfigError as error:
                problems = [str(found) for found in error.problems]
            except NoSourcesError as error:
                problems = [str(error)]
            except Exception as error:  # noqa: BLE001 - a bug must be logged, and the old configuration stay in use
                problems = [f"unexpected {type(error).__name__} in {place(error)}"]
            else:
                self._log.info("configuration reloaded", file=self._config_path)
                return ""
            self._about.refused()
            for problem in problems:
                self._log.error("configuration not reloaded", problem=problem)
            return "\n".join(problems)

    def _reload(self, path: Path) -> None:
        """Build, ask, then swap. If anything is raised, the old configuration stays in use, whole."""
        config = self._read_config(path)
        setup = Setup.begun(config, self._clock, self._sources)
        try:
            with self._lock:
                before = self._setup
                setup.names.use(before.names.conf)
                take_over = self._history.reconsider(config, setup.names)
                if self._prober is not None:
                    self._prober.configure(config)
                take_over()
                self._setup = setup
                self._about.reloaded(self._clock.wall())
        except BaseException:
            setup.reader.stop()
            raise
        before.reader.stop()

    def tick(self) -> None:
        """Read the sources and drive the history, the prober and the health of peers."""
        began = self._clock.cpu()
        with self._looking() as (setup, snapshot):
            devices = self._history.follow(setup.names, snapshot)
            self.quiets.follow(devices)
            plan = setup.planner.plan(devices, snapshot, setup.names.metas)
            self._probe(plan, snapshot)
            setup.reader.ask(setup.routing.questions(plan, snapshot.conf))
            obstacles = setup.routing.obstacles(plan, snapshot)
            probes = self._probes()
            changes = self._history.judge(
                setup.config,
                setup.names,
                devices,
                snapshot,
                probes,
                obstacles=obstacles,
                sightings=self.watched.by_device(),
            )
            self.watched.follow(self._history.health.doubtful(), snapshot, setup)
            setup.reader.unwell(self._history.unwell(snapshot))
            open_ones = unjudged(snapshot, setup.names.metas, plan if self._prober else None)
            quiet = self.quiets.now()
            found = summary(self._history.health.devices(), STATUS_PEERS, quiet)
            unmatched = setup.matching.look(snapshot, setup.names.metas)
            problems = islice(chain(self._history.problems(setup.config, snapshot), told(unmatched)), STATUS_PROBLEMS)
            others = self._history.peers - found.expected
            self._status, self._snapshot = Status(snapshot.wall, found, tuple(problems), others), snapshot
        unprobed = plan.unprobed if self._prober else {}
        self._changelog.report(snapshot, found.expected, others, unprobed)
        found_causes = self._seek(setup, snapshot, plan)  # after all is published, as it must not delay that
        self._changelog.tell(changes, self._history.health.count(State.DOWN), quiet, self._causes.now())
        self._changelog.causes(found_causes, quiet)
        self._changelog.unjudged(open_ones)
        self._changelog.unmatched(unmatched)
        self._took = self._clock.cpu() - began

    def _seek(self, setup: Setup, snapshot: Snapshot, plan: Plan) -> list[Found]:
        """Go on seeking the causes of peers that are down or degraded."""
        self._places.take(snapshot)
        look = Look(
            snapshot,
            self._history.health,
            plan,
            setup.config,
            self._probes(),
            self.watched.sightings(),
            self.watched.callers(),
            setup.planner.underlays(),
            self._places,
            lambda device: self._locked(lambda: self._history.endpoint_names(device, snapshot)),
            lambda: self._locked(lambda: self._history.drifts(snapshot)),
        )
        return self._causes.follow(look, setup.reader, partial(self._watch, setup, snapshot))

    def _locked(self, ask: Callable[[], T]) -> T:
        """What the history says, which scrapes ask meanwhile too."""
        with self._lock:
            return ask()

    def _watch(self, setup: Setup, snapshot: Snapshot, keys: list[PeerKey]) -> None:
        """Have peers watched whose cause is sought."""
        if setup.config.probe.watch:
            self.watched.open(keys, snapshot, setup, SEARCH_SECONDS)

    def _probe(self, plan: Plan, snapshot: Snapshot) -> None:
        """Tell the prober whom to probe, and their byte counters."""
        if self._prober is None:
            return
        self._delay = self._prober.scheduling_delay()
        self._prober.set_peers(self._pauses.apply(plan.peers, snapshot.monotonic))
        self._prober.counters(read_counters(snapshot, {peer.key for peer in plan.peers}))

    def _probes(self) -> Mapping[DeviceKey, Mapping[str, Probed]]:
        """What the prober knows, by device and public key."""
        return self._prober.results() if self._prober is not None else {}

    def _usages(self, setup: Setup) -> Iterator[Usage]:
        """What the other processes have cost the host."""
        yield from self._costs()
        if setup.reader.usage is not None:
            yield setup.reader.usage
        if self._prober is not None:
            yield from self._prober.usages()

    def _view(self, setup: Setup, snapshot: Snapshot) -> View:
        facts = self._about.facts(snapshot.capabilities, self._history.clock_steps)
        seen = self._history.view(setup.config, setup.names, snapshot, facts)
        return seen._replace(
            probes=self._probes(),
            scheduling_delay=self._delay,
            quiet=self.quiets.now(),
            causes=self._causes.now(),
        )

    def _view_of_all(self, setup: Setup, snapshot: Snapshot) -> View:
        """As `_view`, and which entries of the configuration match nothing, which is no metric."""
        view = self._view(setup, snapshot)
        return view._replace(unmatched=tuple(told(setup.matching.look(snapshot, setup.names.metas))))

    def _overview(self, setup: Setup, snapshot: Snapshot, *, lines: bool) -> Overview:
        return from_view(
            snapshot,
            self._view_of_all(setup, snapshot),
            setup.config,
            setup.planner.aims(),
            windows=self._history.health.windows(),
            lines=self._history.lines(snapshot) if lines else {},
            teller=self._about.teller(setup.config),
        )
