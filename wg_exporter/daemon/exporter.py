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
from itertools import chain, islice
from typing import TYPE_CHECKING

from wg_exporter import __version__
from wg_exporter.daemon.about import About
from wg_exporter.daemon.causes import Causes
from wg_exporter.daemon.changelog import ChangeLog
from wg_exporter.daemon.facts import Places
from wg_exporter.daemon.fast import FastPeers
from wg_exporter.daemon.happened import Happened
from wg_exporter.daemon.host import HostHistory, Status
from wg_exporter.daemon.journal import Journal
from wg_exporter.daemon.prober import unjudged
from wg_exporter.daemon.probing import Probes
from wg_exporter.daemon.processes import Processes
from wg_exporter.daemon.quiets import Quiets
from wg_exporter.daemon.reloading import Reloading
from wg_exporter.daemon.seeking import Seeking
from wg_exporter.daemon.setup import Setup, from_file
from wg_exporter.daemon.ticking import Ticker
from wg_exporter.daemon.views import Views
from wg_exporter.daemon.watching import Watched
from wg_exporter.exposition import compat
from wg_exporter.exposition.samples import metrics, samples
from wg_exporter.health.states import State
from wg_exporter.health.summary import Summary, summary
from wg_exporter.names.unmatched import told
from wg_exporter.sources import SYSTEM_CLOCK, Clock, StoppedError, with_unread
from wg_exporter.status import document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from wg_exporter.config import Config
    from wg_exporter.daemon.prober import Prober
    from wg_exporter.exposition.parts import Sample
    from wg_exporter.exposition.view import View
    from wg_exporter.linux.storage import Storage
    from wg_exporter.linux.trackfiles import TrackFiles
    from wg_exporter.model import PeerKey, Snapshot, Usage
    from wg_exporter.sources import OpenSources
    from wg_exporter.status.document import Document
    from wg_exporter.status.rows import Overview

TICK_SECONDS = 5.0
SUSPECT_TICK_SECONDS = 1.0  # while a peer is suspicious

# The most unhealthy peers, and the most problems, that a status names.
STATUS_PEERS = 50
STATUS_PROBLEMS = 20


class Exporter:
    """Everything but HTTP. Thread-safe. `start` it, `scrape` it, `stop` it. It ticks every `every` seconds.

    `net_raw` says whether probes can be sent, None = as this process may. `read_config` reads the configuration again,
    or raises ConfigError. `costs` are those of other processes. `storage` is what survives a restart. `journal` is told
    what happens, None = one in `storage`. `track_files` is where fast echoes are told by files.

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
        journal: Journal | None = None,
        track_files: TrackFiles | None = None,
    ) -> None:
        self._clock = clock
        self._sources = sources
        self._every = every
        self._changelog = ChangeLog()
        self._history = HostHistory()
        self._costs = costs
        self._status = Status(clock.wall(), Summary(), ())
        self._snapshot: Snapshot | None = None  # of the last tick; most of it is in the history anyway
        self._took = 0.0  # of processor time by the last tick, in seconds
        self._processes = Processes()
        self._probes = Probes(prober)
        self.watched = Watched(prober)
        self._causes = Causes()
        self.journal = journal or Journal(clock, storage)
        self._happened = Happened()
        self.quiets = Quiets(clock, storage, self.journal.add)
        self.fast = FastPeers(prober, track_files, self.journal.add, self.quiets.now, clock.wall)
        self._about = About(config_path, clock.wall(), net_raw, self.journal.problem, self.fast.track_files)
        self._reloading = Reloading(config_path, read_config, self._about, self.journal)
        self._views = Views(self._history, self._probes, self.quiets, self._causes, self.fast, self._about)
        self._setup = Setup(config, clock, sources)
        # For the names, the writers and the history, which are not thread-safe.
        self._lock = threading.Lock()
        self._seeking = Seeking(self._causes, self._history, self._lock, self._probes, self.watched, Places())
        self._ticker = Ticker(self)
        self._open = True

    def __del__(self) -> None:
        if self._open:
            warnings.warn(f"{type(self).__name__} was dropped without being stopped", ResourceWarning, 2, source=self)
            self.stop()

    def start(self) -> None:
        """Begin to tick. After the first tick the exporter is ready."""
        self.journal.start(__version__)
        self._ticker.start()

    def stop(self) -> None:
        """End the tick, the threads of the sources, and the prober."""
        self._open = False
        self._ticker.stop()
        self._setup.reader.stop()
        self.quiets.stop()
        self.fast.stop()
        self._probes.stop()
        self.journal.stop()

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

    @property
    def config(self) -> Config:
        """The configuration in use."""
        return self._setup.config

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
            view = self._views.metrics(setup, snapshot)
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
            return self._views.overview(setup, snapshot, lines=lines)

    def document(self, *, private: bool, round_trips: bool = False) -> bytes:
        """The status document. For strangers (not `private`) it has the endpoints as `/metrics` has them."""
        found = self.overview(lines=round_trips)
        return document.encode(found, endpoints="full" if private else self._setup.config.metrics.endpoint)

    def last(self) -> Document | None:
        """The status document for strangers as of the last tick, with round trips; None before. Waits for no source."""
        with self._lock:
            setup, snapshot = self._setup, self._snapshot
            found = snapshot and self._views.overview(setup, snapshot, lines=True)
        return found and document.document(found, setup.config.metrics.endpoint)

    def pause_probes(self, asked: Mapping[str, str]) -> str:
        """Do as a request to pause probes says. Empty if it was done, else one line why not. Does not wait."""
        problem = self._probes.pause(asked, self._clock.monotonic())
        if not problem:
            self._ticker.hurry()
        return problem

    def samples(self) -> list[Sample]:
        """All samples of `/metrics` but those of the process."""
        _snapshot, view, config = self.look()
        return [sample for sample in samples(view) if not config.metrics.excluded(sample.metric.name)]

    def look(self) -> tuple[Snapshot, View, Config]:
        """Read everything: the snapshot, what a scrape would show of it, and the configuration in use."""
        with self._looking() as (setup, snapshot):
            return snapshot, self._views.all(setup, snapshot), setup.config

    def observe(self) -> tuple[Snapshot, View, Config]:
        """As `look`, and drive the history and the health as a tick does: for `show --watch`, which has no ticks."""
        with self._looking() as (setup, snapshot):
            devices = self._history.follow(setup.names, snapshot)
            self._history.judge(setup.config, setup.names, devices, snapshot, self._probes.results())
            return snapshot, self._views.all(setup, snapshot), setup.config

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
                    snapshot = self._history.with_packets(snapshot)
                    yield setup, self._history.with_silent(setup.config, snapshot)
                    return

    def reload(self) -> str:
        """Read the configuration again. Returns its problems, one a line; then nothing has changed. Empty = in use.

        Raises nothing, as a caller that is a signal handler would not see it.
        """
        return self._reloading.reload(self._use)

    def _use(self, config: Config) -> None:
        """Build, ask, then swap. If anything is raised, the old configuration stays in use, whole."""
        setup = Setup.begun(config, self._clock, self._sources)
        try:
            self._read_last_packets()
            with self._lock:
                before = self._setup
                setup.names.use(before.names.conf)
                setup.fast.follow(before.fast)
                take_over = self._history.reconsider(config, setup.names)
                self._probes.configure(config)
                take_over()
                self._setup = setup
                self._about.reloaded(self._clock.wall())
                self.fast.reloaded(config.track_files)
        except BaseException:
            setup.reader.stop()
            raise
        before.reader.stop()

    def _read_last_packets(self) -> None:
        """Take in what the reader that is about to end has counted, until the next one counts in its place."""
        if self._setup.config.accounting.enabled:
            snapshot = self._setup.reader.read()
            with self._lock:
                self._history.with_packets(snapshot)

    def tick(self) -> None:
        """Read the sources and drive the history, the prober and the health of peers."""
        began = self._clock.cpu()
        with self._looking() as (setup, snapshot):
            devices = self._history.follow(setup.names, snapshot)
            self.quiets.follow(devices)
            plan = setup.planner.plan(devices, snapshot, setup.names.metas)
            self._probes.tell(plan, snapshot)
            self.fast.follow(setup.fast.plan(devices, snapshot), devices, setup.names.metas)
            setup.reader.ask(setup.routing.questions(plan, snapshot.conf))
            obstacles = setup.routing.obstacles(plan, snapshot)
            probes = self._probes.results()
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
            open_ones = unjudged(snapshot, setup.names.metas, plan if self._probes else None)
            quiet = self.quiets.now()
            found = summary(self._history.health.devices(), STATUS_PEERS, quiet)
            unmatched = setup.matching.look(snapshot, setup.names.metas)
            problems = islice(chain(self._history.problems(setup.config, snapshot), told(unmatched)), STATUS_PROBLEMS)
            others = self._history.peers - found.expected
            self._status, self._snapshot = Status(snapshot.wall, found, tuple(problems), others), snapshot
            seen = self._happened.look(
                self._history.roamed(),
                setup.names.metas,
                probes,
                self._history.drifts(snapshot),
                self._history.names_of,
            )
        unprobed = plan.unprobed if self._probes else {}
        self._changelog.report(snapshot, found.expected, others, unprobed)
        found_causes = self._seeking.go_on(setup, snapshot, plan)  # after all is published, as it must not delay that
        events = self._happened.events(
            seen, changes, found_causes, quiet=quiet, causes=self._causes.now(), wall=snapshot.wall
        )
        self._changelog.tell(events, self._history.health.count(State.DOWN))
        self.journal.add(events)
        self._changelog.unjudged(open_ones)
        self._changelog.unmatched(unmatched)
        self._took = self._clock.cpu() - began

    def _usages(self, setup: Setup) -> Iterator[Usage]:
        """What the other processes have cost the host."""
        yield from self._costs()
        if setup.reader.usage is not None:
            yield setup.reader.usage
        yield from self._probes.usages()
