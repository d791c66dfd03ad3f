"""Write docs/events.md from the code: what becomes an event, how it is told, what is kept. `--check`: only compare.

The sentences are made by the program itself, of examples, so they are what the page and the terminal say.
"""

from __future__ import annotations

import sys

from generating import DOCS, run, table

from wg_exporter.events import ALIKE, MOST, MOST_OF, MOST_OF_PEER, Event, Kind, Level, Life, Process, event
from wg_exporter.events.file import MOST_LINES, NAME
from wg_exporter.events.words import sentence
from wg_exporter.web.clients import Limits

HEAD = f"""\
<!-- Written by docs/generate_events.py from wg_exporter/events/. Do not edit by hand. -->
# What happened

The exporter keeps the last {MOST:,} events of its host, so that "what happened last night" has an answer on the host
itself, also where no Prometheus looked:

```sh
wg-exporter events
wg-exporter events --since 22:00
wg-exporter events wg0 berlin
wg-exporter events --follow
```

The same events are

- at [`/api/v1/events`](api.md#get-apiv1events), as lines of JSON, at once or as they happen;
- on the page at `/`, the last 20 of them, and in `wg-exporter show wg0 berlin`, the last five of that peer;
- in the log, as far as its column says. The log has the same rows, and more: sources that fail, files with mistakes;
- on the dashboards of a host and of a peer, as marks on the graphs. Grafana takes these from Prometheus, so they are
  there for all hosts and for as long as Prometheus keeps them, and hold what metrics can hold:
  [dashboards.md](dashboards.md#marks).

## What becomes an event

"""

MIDDLE = f"""
A peer that is well when the exporter first judges it, and an MTU that is right when it is first measured, did nothing.
The verdicts `unknown`, `unreachable` and `inconclusive` say nothing of an MTU; what was found before them is compared
with what is found after them. Kinds of drift that can't be judged at the moment are as they were.

**Many at once.** Of more than {ALIKE} peers to which the same happened at one look, one event is made, which names the
first ten and has their number in `peers`. So ten thousand peers that lose their interface are one line, and the night
before stays. `wg-exporter events wg0 berlin` shows such lines too, as what happens to an interface happens to its
peers. The log has a line for each peer of a state, a reason or a cause.

**Wanderers.** Of the {MOST:,}, some kinds may have only a part, so that what repeats itself does not push out the rest:
{", ".join(f"{MOST_OF[kind]} of `{kind}`" for kind in MOST_OF)}. And where something has to go, it is the oldest of a
peer that has more than {MOST_OF_PEER}, before it is anything else.

**Order.** Events have numbers that rise by one, across restarts too. They tell the order also where the clock was set
back; times are by the clock of then.

## What survives

The events are kept in `{NAME}` below `--storage.path` (`/var/lib/wg-exporter`), a line each. Lines are added at most
once a second, with one fsync for all that came meanwhile, and nothing is written while nothing happens. After
{MOST_LINES:,} lines the file is written anew with the last {MOST:,}.

- A kill of the exporter at any point of a write loses the line that was being written, and no other. A crash of the
  host can lose the last second too.
- A line that is none of ours is left out, the file is set aside as `{NAME}.bad`, and the log says so.
- Without `--storage.path`, or where nothing can be written there, events are known until the exporter ends. The log and
  `wg-exporter check` say so, and `storage_problem` in the [status document](api.md#exporterpart). It has no alert, for
  nothing is down by it; a full disk is for whoever watches the host.
- Where no exporter runs, `wg-exporter events` reads that file, as root. The last event then says how it ended: one that
  was stopped says so, and one that was killed is told by the next one that is started.

## Who is told what

Over TCP there is no more in an event than the [status document](api.md) tells over TCP. Endpoints are as
`metrics: endpoint` says. The evidence of a cause, which holds addresses, is there with `full` alone. What is wrong with
a configuration, and how a process ended, is told on the Unix socket alone. Of an interface that the configuration hides
nothing is told over TCP, also of before.

Whoever [follows](api.md#get-apiv1events) holds none of the places in which scrapes are answered. {Limits().followers}
may follow over TCP at a time, and as many over the Unix socket.
"""

_WG0 = ("", "wg0")
_BERLIN = {"public_key": f"{'A' * 43}=", "name": "berlin"}
_TIME = 1_767_232_740.0


def _examples() -> dict[Kind, tuple[str, str, list[Event]]]:
    """For each kind: what it is, its line in the log, and examples."""

    def peer(kind: Kind, **fields: object) -> Event:
        return event(kind, _TIME, _WG0, **_BERLIN, **fields)  # type: ignore[arg-type]

    down = peer(
        Kind.STATE,
        before="up",
        after="down",
        reason="handshake_unanswered",
        cause="port_unreachable",
        evidence="2 initiations unanswered for 27 s",
    )
    return {
        Kind.STATE: (
            "a peer is in another [state](health.md)",
            "`peer changed`",
            [down, peer(Kind.STATE, before="down", after="up", evidence="heard 3 s ago")],
        ),
        Kind.REASON: (
            "its state stayed, and has another reason",
            "`reason changed`",
            [peer(Kind.REASON, before="down", after="down", reason="not_sent", evidence="nothing leaves this host")],
        ),
        Kind.CAUSE: (
            "the [cause](causes.md) was found, or is another",
            "`cause found`",
            [peer(Kind.CAUSE, cause="silent", confidence="likely", evidence="3 messages left, nothing came back")],
        ),
        Kind.ROAMING: (
            "it was heard from another endpoint",
            "`peer roamed`",
            [peer(Kind.ROAMING, before="192.0.2.7:51820", after="198.51.100.9:41414")],
        ),
        Kind.MTU: (
            "another [verdict](probing.md) on its MTU",
            "`MTU verdict changed`",
            [peer(Kind.MTU, before="blackhole", after="ok", evidence="1420 bytes pass inside the tunnel")],
        ),
        Kind.FAST: (
            "it answers [fast echoes](failover.md) no more, or again",
            "`down by fast echoes`, `up by fast echoes`",
            [peer(Kind.FAST, before="up", after="down")],
        ),
        Kind.DRIFT: (
            "an interface differs from its file, in another way, or no more ([drift.md](drift.md))",
            "`drift changed`",
            [event(Kind.DRIFT, _TIME, _WG0, after="allowed_ips 2, mtu 1", evidence="/etc/wireguard/wg0.conf")],
        ),
        Kind.QUIET: (
            "a [quiet](health.md#while-you-work-on-it) begins or ends",
            "`quiet begins`, `quiet ends`",
            [peer(Kind.QUIET, after="begun", until=_TIME + 7200, evidence="new router")],
        ),
        Kind.RELOAD: (
            "the configuration was read again, or could not be",
            "`configuration reloaded`, `configuration not reloaded`",
            [event(Kind.RELOAD, _TIME, after="failure", evidence="config.yml:3: probes: there is no such key")],
        ),
        Kind.PROCESS: (
            "the exporter, or one of its processes, was started, stopped, died, or works again",
            "`probing`, `nothing can be read`, `the reader reads again`, `the resolver of host names ended`",
            [
                event(
                    Kind.PROCESS,
                    _TIME,
                    level=Level.ERROR,
                    process=Process.PROBER,
                    after=Life.FAILED,
                    evidence="was killed by SIGKILL; it is started again in 1 s",
                )
            ],
        ),
    }


def page() -> str:
    """The whole text of docs/events.md."""
    rows = [
        (f"`{kind}`", what, log, "; ".join(sentence(one) for one in examples))
        for kind, (what, log, examples) in _examples().items()
    ]
    assert [kind for kind, *_ in rows] == [f"`{kind}`" for kind in Kind]  # noqa: S101 - none is left out
    return HEAD + table(("kind", "what happened", "`msg` in the log", "in words"), rows) + MIDDLE


if __name__ == "__main__":
    sys.exit(run(DOCS / "events.md", page, __doc__))
