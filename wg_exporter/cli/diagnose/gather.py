"""Everything that is looked at during a diagnosis, and what is known of it at the moment.

What may take long runs in threads (`host`). Packets are sent and taken in the thread that calls `step`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.cli.diagnose import assemble, host
from wg_exporter.cli.diagnose.assemble import Known, peer_in
from wg_exporter.cli.diagnose.echoes import INTERVAL, Knocks, Outside, Probing
from wg_exporter.cli.diagnose.filtering import filters, forwarded
from wg_exporter.cli.diagnose.opener import Opener
from wg_exporter.model import Backend
from wg_exporter.prober.wire.netns import Namespaces
from wg_exporter.reader.inspect.look import inspect
from wg_exporter.reader.inspect.subject import subject
from wg_exporter.sighted import WatchPeer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wg_exporter.causes.facts import Filter
    from wg_exporter.cli.diagnose.choice import Chosen
    from wg_exporter.cli.diagnose.firewall.ruleset import Chain
    from wg_exporter.config import Config
    from wg_exporter.inspected import Inspected
    from wg_exporter.model import Peer, Snapshot
    from wg_exporter.prober.transport import Tap

DEVICES, ROUTES, RULES = 0.4, 0.5, 0.7  # seconds between two readings
DNS_SECONDS = 5.0  # a name that is not looked up by then is not known
TEXT_SECONDS = 0.3  # for which nft may keep packets waiting, before the words of a rule come later
OTHERS_AFTER = 1.2  # seconds without an answer, after which other addresses inside are asked
NEED_RAW = "this needs CAP_NET_RAW: run it as root"


class Around(NamedTuple):
    """What is known of the device's other peers: names by public key, and how many are expected up."""

    names: Mapping[str, str] = {}
    others_expected: int = 0


class Gathering:
    """Looks from `begin` to `close`."""

    def __init__(
        self,
        chosen: Chosen,
        config: Config,
        look: Callable[[], Snapshot],
        first: Snapshot,
        around: Around,
        *,
        decrypt: bool = True,
        tap: Tap | None = None,
    ) -> None:
        """`look` reads the devices, `first` is what it gave at last."""
        self._chosen, self._config, self._around, self._decrypt = chosen, config, around, decrypt
        self._paths = {place.name: place.path for place in config.namespaces}
        self._namespaces = Namespaces(self._paths)
        self._first = self._last = first
        self._lacking: dict[str, None] = {}
        self._handshakes = 0
        self._begun = 0.0
        self._provoked = False
        self._probing = Probing(config.probe, self._paths, tap)
        self._outside: Outside | None = None
        self._knocks: Knocks | None = None
        self._asked_others = False
        self._opener = Opener(chosen, self._paths)
        self._texts: dict[tuple[str, Chain], host.Job[dict[int, str]]] = {}
        self._filtered: tuple[object, tuple[Filter, ...] | None] = (None, None)
        self._devices: host.Repeated[Snapshot] = host.Repeated("devices", look, DEVICES)
        self._routes: host.Repeated[Inspected | None] = host.Repeated("routes", self._inspect, ROUTES)
        self._rules = host.Repeated(
            "rules", lambda: host.firewall(self._paths, chosen.underlay or "", chosen.key[0]), RULES
        )
        self.dns_name = assemble.host_name(chosen.conf_peer.endpoint) if chosen.conf_peer else ""
        self._dns = host.Job("dns", lambda: host.resolve(self.dns_name)) if self.dns_name else None

    def wait_for_host(self, seconds: float) -> None:
        """Wait until this host was read once, as counters have to be compared; not for longer than that."""
        end = time.monotonic() + seconds
        for one in (self._devices, self._routes, self._rules):
            one.wait(end - time.monotonic())

    def begin(self, now: float, longest: float) -> None:
        """Watch the wire for so many seconds at most, then send the first packet."""
        chosen = self._chosen
        device, peer = chosen.device, chosen.peer
        if device is None or peer is None:
            return
        self._begun = now
        self._first = self._last = self._devices.last or self._first
        if device.backend is Backend.AMNEZIAWG:
            self._lacks("the wire, as AmneziaWG hides what its messages are")
        elif chosen.underlay is None:
            self._lacks("the wire, as the namespace of the outer packets is none that is configured")
        else:
            watched = WatchPeer(chosen.key, chosen.underlay, peer.endpoint, device.listen_port, device.public_key)
            if problem := self._probing.watch(watched, longest, now):
                self._lacks(f"the wire: {problem}")
        self._provoke()
        if chosen.endpoint and chosen.underlay is not None:
            try:
                self._outside = Outside(chosen.endpoint, chosen.underlay, device.fwmark, self._namespaces.open)
            except (OSError, ValueError) as error:
                self._lacks(f"pings outside the tunnel: {getattr(error, 'strerror', None) or error}")

    def step(self, longest: float, now: float) -> None:
        """Send what is due, take what came and what was read, within so many seconds."""
        self._probing.step(longest, now)
        if self._outside is not None:
            self._outside.step(now)
        fresh = self._devices.last
        if fresh is not None and fresh is not self._last:
            self._take(fresh)
        if not self._probing.answered and now - self._begun >= OTHERS_AFTER and self._chosen.target:
            self._ask_others()
        if self._knocks is not None:
            self._knocks.step(now)
        if self._decrypt:
            self._opener.take(self._probing.sighting, self._probing.callers)

    def finish(self, seconds: float) -> None:
        """Read everything once more, within so many seconds."""
        end = time.monotonic() + seconds
        for one in (self._devices, self._routes, self._rules):
            one.once_more(end - time.monotonic())
        if (fresh := self._devices.last) is not None:
            self._take(fresh)
        self._opener.finish(end - time.monotonic())
        for text in self._texts.values():
            text.wait(end - time.monotonic())

    @property
    def ready(self) -> bool:
        """Whether this host has been read again since the first packet."""
        return self._routes.last is not None and self._routes.last is not self._routes.first

    @property
    def answered(self) -> bool:
        """Whether the target has answered."""
        knocked = self._knocks is not None and self._knocks.answered
        return (self._probing.answered or knocked) and bool(self._chosen.target)

    @property
    def measured(self) -> bool:
        """Whether loss and sizes are known, or can't be, as it answers no echo."""
        return self._probing.measured or not self._probing.answered

    def known(self, now: float) -> Known:
        """All that is known at the moment."""
        chosen = self._chosen
        known = Known(
            chosen,
            now,
            time.time(),
            self._first,
            self._last,
            self._handshakes,
            provoked=self._provoked,
            inside=self._probing.inside(),
            knocked=self._knocks is not None and self._knocks.answered,
            outer=self._outside.echo() if self._outside else None,
            sighting=self._probing.sighting,
            callers=self._probing.callers,
            before=self._routes.first,
            host=self._routes.last,
            dns_name=self.dns_name,
            resolved=self._resolved(now),
            opened=self._opener.opened(self._around.names) if self._decrypt else None,
            names=self._around.names,
            others_expected=self._around.others_expected,
        )
        rules = self._rules.last
        return known._replace(
            filters=self._filters(known),
            unread_filters=rules.unread if rules is not None else (),
            not_looked=tuple(self._unseen()),
        )

    def close(self) -> None:
        """Close all sockets, and let go of the threads."""
        for looks in (self._devices, self._routes, self._rules):
            looks.stop()
        for one in (self._outside, self._knocks):
            if one is not None:
                one.close()
        self._probing.close()
        self._namespaces.close()

    def _provoke(self) -> None:
        probe = self._chosen.probe(INTERVAL)
        if probe is None:
            why = self._chosen.why_no_target or "nothing can be sent to it"
            self._lacks(f"whether a packet leads to a handshake ({why})")
            return
        self._probing.start(probe)
        self._provoked = True
        if not self._chosen.target:
            self._lacks(f"whether data is answered inside the tunnel ({self._chosen.why_no_target})")

    def _ask_others(self) -> None:
        """The target answers no echo: ask other addresses inside, and whether it answers anything else."""
        if self._asked_others:
            return
        self._asked_others = True
        self._probing.ask_others(assemble.other_addresses(self._chosen))
        netns, interface, _ = self._chosen.key
        with suppress(OSError):
            self._knocks = Knocks(self._chosen.target, netns, interface, self._namespaces.open)

    def _take(self, fresh: Snapshot) -> None:
        before, now = self._peer(self._last), self._peer(fresh)
        if assemble.moved(before, now):
            self._handshakes += 1
        if now is not None:
            self._probing.counters(now.rx_bytes, now.tx_bytes)
        self._last = fresh

    def _peer(self, snapshot: Snapshot) -> Peer | None:
        return peer_in(snapshot, self._chosen.key)

    def _inspect(self) -> Inspected | None:
        one = subject(self._devices.last or self._first, self._chosen.key, self._chosen.target or self._chosen.meant)
        return inspect(one, self._paths, time.monotonic) if one is not None else None

    def _resolved(self, now: float) -> host.Resolved | None:
        if self._dns is None:
            return None
        if self._dns.done:
            return self._dns.value or host.Resolved(problem=self._dns.problem)
        late = now - self._begun >= DNS_SECONDS
        return host.Resolved(problem=f"no answer within {DNS_SECONDS:g} s") if late else None

    def _filters(self, known: Known) -> tuple[Filter, ...] | None:
        before, after = self._rules.first, self._rules.last
        if before is None or after is None:
            return None
        seen = known.sighting
        worded = sum(job.done for job in self._texts.values())
        state = after, known.host, known.handshakes, seen and seen[:-3], known.callers, worded
        if self._filtered[0] != state:
            self._filtered = state, filters(before, after, known, self._rule_texts)
        return self._filtered[1]

    def _rule_texts(self, netns: str, chain: Chain) -> Mapping[int, str]:
        """Asked once for each chain, as nft is a process, which may take long."""
        place = netns, chain._replace(rules=())
        if place not in self._texts:
            self._texts[place] = host.Job("nft", lambda: host.rule_texts(self._paths, netns, chain))
            self._texts[place].wait(TEXT_SECONDS)
        return self._texts[place].value or {}

    def _lacks(self, what: str) -> None:
        self._lacking[what] = None

    def _unseen(self) -> Sequence[str]:
        """What could not be looked at, each in words."""
        found = list(self._lacking)
        if self._rules.first is None:
            found.append(f"the firewall of this host ({self._rules.problem or 'it was not read in time'})")
        elif self._rules.last is not None:
            found += self._rules.last.unread
            # Whose own packets pass may ask for those of others.
            others = forwarded(self._rules.last, self._chosen.target) if self.answered else ""
            found += [others] if others else []
        if not self._decrypt:
            found.append("who calls, as --no-decrypt leaves messages closed")
        elif self._opener.problem or self._opener.late:
            found.append(f"who calls ({self._opener.problem or 'the message was not opened in time'})")
        return found
