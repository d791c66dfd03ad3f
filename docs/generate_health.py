"""Write docs/health.md from the table of rules by which peers are judged, and its limits. With `--check`, only compare.

How peers are judged, and what to do about it, is in wg_exporter/health/rules/, what it rests on in evidence.py.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from generating import DOCS, run, table

from wg_exporter.config.fields import duration
from wg_exporter.config.health import HealthLimits
from wg_exporter.daemon.exporter import SUSPECT_TICK_SECONDS, TICK_SECONDS
from wg_exporter.health import quality, timing
from wg_exporter.health.advice import advice
from wg_exporter.health.device import UNREAD_SECONDS
from wg_exporter.health.rules import RULES
from wg_exporter.health.states import State
from wg_exporter.quiet import LONGEST
from wg_exporter.reader.links.routes import LOOK_SECONDS

if TYPE_CHECKING:
    from wg_exporter.health.rules.rule import Rule

FAULTS = DOCS.parent / "bench/faults.json"  # written by bench/faults.py

PAGE = """\
<!-- Written by docs/generate_health.py from wg_exporter/health/. Do not edit by hand. -->
# Health

Is the tunnel up, and if not, why? `wg-exporter serve` answers for every peer, whether or not anyone scrapes:

- `wireguard_peer_state` is 1 for one of {states}.
- `wireguard_peer_reason` says by what a peer is seen to be `down` or `degraded`, and is absent otherwise.
- `wireguard_peer_cause` says what causes that, where it could be found out: [causes.md](causes.md).
- `wireguard_peer_down_seconds_total` and `wireguard_peer_state_changes_total` keep what happened between two scrapes.

## What to do at night

1. Open `http://HOST:9586/` (`https` with TLS): it lists who is down or degraded, since when, with the reason, the
   evidence and what to do. The reasons are explained [below](#reasons-and-what-to-do). Where only Prometheus may reach
   it: `ssh -L 9586:ADDRESS:9586 HOST`, and open `http://localhost:9586/`. If `web: allowed_hosts` is set, it has to
   list `localhost`.
2. `sudo wg-exporter show INTERFACE PEER` has the endpoint and the latest handshake. It asks the exporter, so it says
   what the page says. Where it can't ask, it [looks once](#special-cases), says so, and shows `?` for what that can't
   tell.
3. `sudo wg-exporter diagnose INTERFACE PEER` looks for the cause, within 20 s: it watches the wire, provokes a
   handshake, reads routes, sockets, the firewall and DNS, and says what shows the cause, what it is not, and what to
   do. It changes nothing.
4. `sudo wg-exporter events INTERFACE PEER` says [what happened](events.md) before, also last night: each change with
   its evidence, what was sent, what was heard, for how long; where the peer roamed to; whether the exporter was
   restarted. `journalctl -u wg-exporter` has the same, `msg="peer changed"`.
5. The peer need not be up any more: [who should be up](#who-should-be-up). You work on it: [let it be
   quiet](#while-you-work-on-it).

## States

The first line that holds decides.

{rules}
## Who should be up

Only a peer that is **expected up** can be `down`. The others are `up`, `idle`, `degraded` or `never`, so a phone in a
pocket pages nobody.

- **Who is expected up**: those of the query `wireguard_peer_expected_up == 1`. At a
  terminal they have `up` in the column `expected` of `wg-exporter show`; with `--json` it is `expected_up`.
- **Who decides**: the rules under `expect` in the [configuration](configuration.md#expect). Without one that matches, a
  peer is expected up if it has a persistent keepalive and its configuration file names its endpoint.
- **A hub whose branches call in** expects nobody by default, as its file names no endpoints. If nobody is expected up
  at all, the page at `/` says so: "nothing here can page". Write rules: `expect: [{{interface: wg0, state: up}}]`.
- **A peer that may be away** from now on: `expect: [{{name: berlin, state: any}}]`, and reload the exporter.
- **A peer that is gone for good**: remove it from WireGuard (`wg set INTERFACE peer KEY remove`, and its section in the
  file). Its metrics end at once, its alert about four minutes later.
- **For a few hours**: leave this as it is, and say so: `wg-exporter quiet berlin --for 2h`
  ([below](#while-you-work-on-it)).

## While you work on it

    wg-exporter quiet berlin --for 2h --reason "new router"    # one peer
    wg-exporter quiet wg0 --for 30m                            # an interface with all of its peers, and its being gone
    wg-exporter quiet                                          # what is quiet, until when and why
    wg-exporter quiet berlin --end                             # it pages again

- **What it does**: `wireguard_peer_quiet` (`wireguard_interface_quiet` for a whole interface) is 1, and [the
  rules](alerts/README.md) leave the peer alone: no page, no warning, and it counts neither as down nor in the total
  where most peers of an interface, or a hub, are down. `WireGuardExporterDown` is not affected.
- **The other end** of the tunnel is quiet too, where the same Prometheus scrapes an exporter there. Of hosts that share
  a key, the others are not: the standby has to take over.
- **What it does not do**: hide anything. State, reason and evidence stay what they are, probes go on, and `show`, the
  API, the dashboards and the log mark the peer as quiet. Changes of a quiet peer are `level=info` in the log.
- **It ends by itself**, after {longest} at the latest. If the peer is down then, the page comes with the next scrape.
  What happened meanwhile is not held against it: loss and latency for 20 minutes, flapping for an hour.
- **It survives** a restart of the exporter and a reboot, in a file in `--storage.path`. A peer is known by its key,
  interface and namespace: a new name, an interface made anew and a reload change nothing. Where nothing can be written,
  the command says that it will not survive.
- **The host is rebooted meanwhile**: what was quiet when its exporter fell silent stays so until that is back, for an
  hour at most.
- **Clocks that jump** never make it longer than was asked for: it ends at its time by the wall clock, or when its
  seconds have gone by, whichever comes first. If the clock is behind the time at which it was begun when the exporter
  starts, nobody can know for how long that did not run: then as many seconds are left as when they were last written
  down, less a minute. A clock that leaps by more than a year was wrong before, and what was begun by it goes on.
- **For longer, for many hosts, or by label**: silence the alerts [in Alertmanager](alerts/README.md#silence).

## Host names that moved

WireGuard looks the host name of an endpoint up once, when the interface is set up. It follows a peer that calls from
another address, and never a name. So a tunnel to a name stays dead after the address behind it has changed (dynamic
DNS, a server that was moved) until somebody sets the endpoint again, or the peer calls.

- **What is looked up**: the names that the files of WireGuard give as endpoints of interfaces that are there. A process
  without any right asks as `wg` does (getaddrinfo(3)): every 5 minutes, every minute while the peer is down or
  degraded, and sooner after a failure. Nobody waits for it, no scrape and no tick. Of more than 1,000 names the rest is
  not looked up. `dns: {{resolve: false}}` turns it off.
- **What is told**: `wireguard_peer_endpoint_dns_mismatch` is 1 while the address of the endpoint in use is none of
  those that the name resolves to. It is absent while that is not known: the last lookup failed
  (`wireguard_peer_endpoint_dns_success` is 0 then), or the peer has no endpoint. Ports are not compared, as DNS has
  none and a NAT changes them.
- **A mismatch alone is no fault.** A peer that roams is heard from another address than its name says, and is well. So
  it changes no state. It is in the text of the page of a peer that is down, in `show`, and on the page at `/`;
  [WireGuardEndpointMoved](alerts/WireGuardEndpointMoved.md) warns of a peer that is not heard.
- **Have it set** with `dns: {{reresolve: true}}`: the endpoint of a peer that is down is set to what its name says,
  with the port in the file. That is done at most once a minute a peer, not in the first minute after a start or reload,
  and only if the name was looked up within the last minute and nothing has come from the peer for 20 s. Of several
  addresses each has its turn, those of the family of the present one first. `wireguard_peer_endpoint_reresolved_total`
  counts it, and the log has a line (`msg="endpoint set"`) with what it was before. Only peers that are [expected
  up](#who-should-be-up) can be down. Nothing else of a device is ever written. wireguard-tools' `reresolve-dns.sh` is
  not needed beside it.

## What counts as evidence

WireGuard does not say whether a tunnel works. It shows byte counters and the time of the last handshake, and these
tell it, for WireGuard answers:

- **Heard**: data or a keepalive came from the peer, which only a working session sends. That ends every doubt at once.
- **A handshake** ends the doubt about handshakes, not the one about data: filters that let handshakes through and drop
  the rest are common. What was sent is taken for handshake messages as long as they can explain all
  of it, and for data only beyond that. The doubt about data ends by itself
  {answer} after a handshake if no data was sent since that could show whether it arrives; {stale} after it where
  this doubt had made the peer `down`, for users may have given up.
- **Unanswered**: a handshake was initiated, or data was sent, and nothing was heard since. WireGuard acknowledges data
  within 10 seconds, at least by a keepalive. Keepalives themselves ask for no answer, nor does what confirms a session.
- **It hears nothing**: probes go unanswered, and the peer starts handshakes at the pace of one that hears nothing:
  three initiations within {calls}, or two handshakes of its own within {woken}. Then it is `down` (`one_way`) though
  its data still comes in. Without that proof an address that falls silent is `target_silent`, and pages nobody. Bulk
  data hides the sizes by which initiations are told; there the wire tells. Initiations that come 15 s apart, of a peer
  whose data does not come, are those of one that hears our responses: `data_unanswered`.
- **On the wire**: while a peer is in doubt, the [watcher](probing.md#what-is-seen-on-the-wire) sees its handshake
  messages. Initiations that WireGuard answers, as the responses that leave show, decide as above that it hears
  nothing, whatever data comes beside them; without probes too, if three came within {calls} and no handshake of
  them. If WireGuard makes handshake messages, by its counters or because data has gone unanswered for
  {overdue} since it was sent or the peer last began a handshake itself, and none is seen leaving, nothing leaves:
  `not_sent`. The kernel counts what its own output filter
  then drops, so that counters can't tell. What anybody may have sent decides nothing.
- While an answer is overdue a peer that is expected up keeps the state it had: a dying tunnel is not called `up` on its
  way from `degraded` to `down`.
- A peer is `down` when {down_after} went by since an answer was due, and at least {attempts} attempts were made. An
  answer to a handshake, or to an echo of a target that answers, is due at once; one to other data after
  {acknowledged}. On a path that loses every 20th packet each way, that many are lost in a row once in a million times.
- Counters are looked at every {tick}; every {suspect} while an answer is overdue, or less often on a host
  of so many peers that looking would take more than a twentieth of a processor. So a peer that is probed is `down`
  {down_after} to {latest} after the cut, for the [prober](probing.md) sends it a small echo every few seconds. Where
  only other data is sent, it is {acknowledged} later, and {acknowledgements} later where handshakes pass: then only
  acknowledgements tell, of which some are lost on a bad line. A probed peer gets time for a second one after a
  handshake, {again}, if echoes were lost before. Where nothing is sent, see
  [the prober is off](#special-cases).
- Lost echoes alone never make a peer `down`: whoever drops echoes and sends anything else is alive.
- **Age** decides only for a peer that has persistent keepalive K: {stale} + K without a sign is `down`
  (`stale_handshake`), for a session ends 180 s after its handshake and a new one takes a moment. Without keepalive,
  age proves nothing: such a peer is `idle`, or `down` once data to it goes unanswered.
- **Users' packets** may not go where probes go, which are bound to the interface. So this host's own route to each
  target that is probed is looked at, in the VRF of the interface, every {routes} and when routes, rules, links or
  addresses change. What stands in the way for {obstructed} makes the peer `degraded` (`not_routed`), while it is heard.
  That is not judged where somebody may have meant it: a file of the interface has a `Table` (systemd-networkd:
  `RouteTable`) other than the main one, the route leads into another WireGuard interface, the configuration says
  `routes: ignore` for the interface, or an `ip rule` that applies to the target asks for what a look-up can't know
  (where packets come from, who sends them). A rule that asks for a mark, or for an address of this host, is tried. A
  target that allowed IPs do not give to the peer can't be probed: `not_allowed`, after the same time.
- **AmneziaWG** pads its messages to other sizes, so that its byte counters do not tell handshakes from data. There only
  probes and age decide.
- `lossy` and `slow` look at the echoes of the last {window}, {fewest} at least. An answer after the timeout is slow,
  not lost, and what an outage lost is not held against the tunnel that came back. What is usual for a peer is learned
  for {learning} before latency is judged, and followed over {usual}.

`health` in the [configuration](configuration.md#health) has the limits: `down_after`, `window`, `loss`, `slow_factor`.

## Reasons, and what to do

{reasons}
## How fast each fault is named

Real tunnels over wireguard-go, each broken in its own way while `wg-exporter serve` watches with its defaults. Seconds
from the fault to the state, in {runs} (`python -m bench.faults`). Wherever a tunnel is down, and users or probes
send, the page follows within a scrape and an evaluation of the rules.

{faults}
## Special cases

- **The exporter starts.** No state before there is evidence: at once for a peer that is heard, else after {judged},
  or a little longer while an answer is due. A state found at the start is no change, and counters begin
  at 0.
- **An interface vanishes.** Its peers that are expected up stay, and are `down` (`interface_gone`) after {down_after};
  `wireguard_interface_up` is 0, and their traffic counters end. When it comes back, they are `down` until heard.
- **A device can't be read.** The last state stays for {unread} and is then absent, for nobody knows. `down` stays, so
  no alert resolves by itself. `wireguard_interface_read_success` and `wireguard_exporter_source_success` say what is
  wrong. Where a userspace daemon does not answer, and none of the probed peers of its interface either, it hangs: all
  peers that are expected up are `down` (`unreadable`) {down_after} after anything last answered.
- **A daemon that does not tell when the last handshake was** (boringtun, once a session has ended): the stamp is
  absent, and a peer that sent more than initiations was heard some time, so it is `idle` and not `never`.
- **The prober is off.** Nothing is `degraded`. A peer with keepalive and no traffic is found `down` by the next
  handshake, which WireGuard tries every 2 minutes, or by age. Without keepalive and traffic, dead and idle look alike:
  the peer is `idle`, and the log says how many these are.
- **`wg-exporter show` without an exporter** looks once and does not probe. It finds peers that are `down` by their
  interface or by the age of their handshake. It never finds one `up`: that is `?`, for a tunnel that was cut a minute
  ago looks the same. With `--watch`, what goes unanswered counts too, from {down_after} on.
- **The clock jumps.** Nothing happens: ages are measured by the monotonic clock. The wall clock is used once, for how
  old the last handshake was at the start.
"""


def page() -> str:
    """The whole text of docs/health.md."""
    limits = HealthLimits()
    faults: list[dict[str, Any]] = json.loads(FAULTS.read_text())
    reasons = [(rule.reason, rule.meaning) for rule in RULES if rule.reason]
    return PAGE.format(
        states=", ".join(f"`{state}`" for state in State),
        rules=table(("", "state", "reason", "when"), map(_line, range(1, len(RULES) + 1), RULES)),
        reasons=table(
            ("reason", "what it means", "what to do"),
            ((f"`{reason}`", meaning, advice(reason)) for reason, meaning in reasons),
        ),
        faults=table(("what breaks", "called", "at most, s", "seen, s"), map(_fault, faults)),
        runs=_runs([len(fault["seen"]) for fault in faults]),
        down_after=_seconds(limits.down_after),
        latest=_seconds(limits.down_after + TICK_SECONDS),
        attempts=timing.ATTEMPTS,
        acknowledged=_seconds(timing.ACKNOWLEDGED_SECONDS),
        acknowledgements=_seconds(timing.ACKNOWLEDGEMENTS_SECONDS),
        again=_seconds(timing.AGAIN_ACKNOWLEDGED_SECONDS),
        tick=_seconds(TICK_SECONDS),
        suspect="second" if SUSPECT_TICK_SECONDS == 1 else _seconds(SUSPECT_TICK_SECONDS),
        stale=_seconds(timing.STALE_SECONDS),
        answer=_seconds(timing.ANSWER_SECONDS),
        calls=_seconds(timing.CALLS_WITHIN),
        overdue=_seconds(timing.ANSWER_SECONDS + timing.RETRIED_SECONDS),
        woken=_seconds(timing.WOKEN_MOST),
        routes=_seconds(LOOK_SECONDS),
        obstructed=_seconds(timing.OBSTRUCTED_SECONDS),
        judged=_seconds(timing.JUDGED_SECONDS),
        unread=_seconds(UNREAD_SECONDS),
        window=duration(limits.window),
        fewest=quality.FEWEST_PROBES,
        learning=duration(quality.LEARNING_SECONDS),
        usual=duration(quality.USUAL_SECONDS),
        longest=duration(LONGEST),
    )


def _line(number: int, rule: Rule) -> tuple[str, ...]:
    state = f"`{rule.state}`" if rule.state else "as before"
    return str(number), state, f"`{rule.reason}`" if rule.reason else "", rule.meaning


def _runs(numbers: list[int]) -> str:
    """How often each fault was made; of those that were added later, less often."""
    least, most = min(numbers), max(numbers)
    return f"{most} runs" if least == most else f"{least} to {most} runs each"


def _fault(row: dict[str, Any]) -> tuple[str, ...]:
    reasons = " or ".join(f"`{reason}`" for reason in (row["reason"], *row["also"]))
    least, most = min(row["seen"]), max(row["seen"])
    seen = f"{least:.0f}" if f"{least:.0f}" == f"{most:.0f}" else f"{least:.0f} to {most:.0f}"
    return row["words"], f"`{row['state']}`, {reasons}", f"{row['latest']:g}", seen


def _seconds(value: float) -> str:
    return f"{value:g} s"


if __name__ == "__main__":
    sys.exit(run(DOCS / "health.md", page, __doc__))
