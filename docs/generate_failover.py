"""Write docs/failover.md: the words stand here, the figures come from bench/failover.py and what it measured.

With `--check` nothing is written, and the exit code is 1 if the page is not what it should be.
"""

from __future__ import annotations

import json
import sys

from generating import DOCS, run, table

from bench.failover import LOSSES, MULTIPLIERS, RESULTS, between, chance, lost
from wg_exporter.config.fast import MOST_ECHOES, MOST_FAST, Fast
from wg_exporter.config.fields import duration

PAGE = DOCS / "failover.md"

TEXT = """\
<!-- Written by docs/generate_failover.py, with figures of bench/failover.py. Do not edit by hand. -->
# Redundant tunnels

A page wakes a person. Where two gateways, or two tunnels of one, lead to the same site, a machine moves the traffic
first, within about a second; what the exporter tells it, and how, is here.

{ways}
**Each gateway has a key of its own.** Two gateways that share a private key are one peer to the far side, which talks
to whoever spoke last: fast echoes of both would turn it to and fro ten times a second. Give each a key, and the far
side a peer, and better an interface, for each.

## Fast echoes

```yaml
track_files: /var/lib/wg-exporter/track
peers:
  - public_key: JRI8Xc0zKP9kXk8qP84NdUQA04h6DLfFbwJn4g+/PFs=
    interface: wg0
    name: berlin
    fast: {{interval: {interval}, multiplier: {multiplier}}} # the defaults; `fast: {{}}` is the same
```

- An echo goes through the tunnel every `interval`, to the address that [probing](probing.md#where-probes-go) would aim
  at. The peer is **down** after `multiplier` intervals without an answer, and **up** after as many answers in a row. A
  cut is told {detection}. Where an answer takes longer than an interval, it is waited for as long as
  answers have taken (RFC 6298), a second at most.
- A peer is down too while nothing can be sent to it: its interface is gone or down, it was removed from the interface,
  or it has no endpoint. Give its entry the `interface`, so that this holds from the start.
- It is not known before the first {multiplier} echoes have said the same, and from 2 seconds after the prober's process
  hangs or died. Then `wireguard_probe_fast_up` is absent, `wg-exporter up` ends with 2, and HTTP answers 503.
- They come beside all other probes, and what they find is in no figure of loss or latency and in no state of health;
  their bytes are seen in the counters of the peer, as all traffic is. Probing need not be on for the peer. They go on
  while `wg-exporter mtu` asks for a pause of the others.
- At most {most} peers of a host have them, and all together at most {echoes:.0f} a second. {most} peers at 100 ms took
  {cost} of a core ({date}, loopback, Python {python}). An echo is 48 bytes, or 64 over IPv6, inside the tunnel, and
  some 108 outside: at 100 ms 9 kbit/s each way. They keep the session, NAT and phones awake.
- Each change is a line of the log, `down by fast echoes`, and one of [what happened](events.md). How peers are by them
  is in `wg-exporter show`, on the page at `/` and on the [dashboards](dashboards.md). `wg-exporter check` says who gets
  none and why, and whether track files can be written.

## How often chance looks like an outage

Random loss of {multiplier} echoes in a row is taken for an outage. At 100 ms, where this part of the packets is lost
**in each direction**, a false alarm comes in the mean every so often; in brackets, the chance of one or more within ten
minutes.

{computed}
Simulated, with the prober's own book of echoes and a played clock: alarms found, and in brackets those computed.

{simulated}
Loss that comes in bursts is worse than this: a burst of {burst} is an outage for this purpose. Ten times the interval
at the same multiplier makes alarms ten times rarer; one more on the multiplier makes them {factor:.0f} times rarer at
5 %, and costs one interval. Below 4 is for paths without loss.

## VRRP with keepalived

On both gateways, `/etc/keepalived/keepalived.conf`, with another `priority` on the second:

```
global_defs {{
    vrrp_version 3
}}
track_file tunnel {{
    file "/var/lib/wg-exporter/track/wg0.JRI8Xc0zKP9kXk8qP84NdUQA04h6DLfFbwJn4g-_PFs="
    weight 0
}}
vrrp_instance site {{
    state BACKUP
    interface eth1
    virtual_router_id 51
    priority 150
    advert_int 0.1
    virtual_ipaddress {{
        198.51.100.254/24
    }}
    track_file {{
        tunnel
    }}
}}
```

- **The file** of a peer is `INTERFACE.KEY` with `-` and `_` in the key in place of `+` and `/`, in another
  network namespace `NETNS:INTERFACE.KEY`; `ls /var/lib/wg-exporter/track` lists those of the peers whose state is
  known. It holds `0` while the peer is up and `1` while it is down. A new version replaces it whole, so nobody reads
  half of one; keepalived is told by inotify, at once.
- **`weight 0`** makes 1 a fault: the gateway gives the address up, whatever the other one has. If the tunnels of both
  are down, nobody has it. With `weight -60` and priorities 150 and 100, 1 lowers the priority to 90: then one of the
  two keeps the address even while both tunnels are down, which is right where it is good for more than this tunnel.
- **What is not known moves no address.** keepalived takes a file that is not there for 0. So a 0 is removed while
  nothing is known, and when the exporter ends; and a 1 stays, also while the exporter is restarted or upgraded, until
  the peer is known to be up: else the address would return to a dead tunnel for some seconds. To overrule it, remove
  the file. An exporter that died is paged ([WireGuardExporterDown](alerts/WireGuardExporterDown.md)); until it is back
  VRRP goes by the hosts alone.
- **The directory** is made by the exporter and is its own; it must not be one with other files. With the systemd unit
  it may be below `/var/lib/wg-exporter`; elsewhere the unit needs a drop-in with `ReadWritePaths=`. Not below
  `/run/wg-exporter`, which systemd removes whenever the service ends. If it can't be had, the log and
  `wg-exporter show` say `no track files`, and all else works.
- **The exporter first, then keepalived**, the first time: keepalived watches the directory that it found at its
  start. Where it found none, its log has `Track file directory for tunnel does not exist - removing`, and it follows
  no tunnel until it is restarted. A directory that is removed later is an error in the exporter's log within 5 s:
  restart the exporter, and then keepalived.
- A change of `track_files` takes a restart of the exporter; which peers are in it, a reload.
- Not `vrrp_script` with `wg-exporter up`: a process each time, and exit code 2, which says that nothing is known, is
  a fault to keepalived.

**To try it**, on the gateway that has the address: cut the tunnel, and look at the second gateway. The track file then
says 1, and the address is gone from `eth1`; the last line takes the cut away:

```
nft 'add table inet cut; add chain inet cut out {{ type filter hook output priority 0; }}'
nft add rule inet cut out udp sport 51820 drop     # the ListenPort of wg0: all of its tunnels are cut
sleep 1; cat /var/lib/wg-exporter/track/wg0.*; ip -brief address show dev eth1
wg-exporter events --since 1m wg0 berlin
nft delete table inet cut
```

Real keepalived (2.2.7), `advert_int 0.1`, a tunnel cut by a packet filter: the address was at the other gateway
after {moved}.

**The way back.** The far site must answer through the gateway that has the address. Allowed IPs belong to one peer of
an interface, so it has an interface for each gateway, both with the same allowed IPs and `Table = off`, and a route
that follows: by `fast` on its side and the [script below](#two-tunnels-of-one-gateway), or by [BFD](#bfd-by-frr).

## Two tunnels of one gateway

WireGuard interfaces have no carrier that could be lost, so the kernel goes on using a dead next hop. Fast echoes say
which one is dead:

```
#!/bin/sh
# Routes to the site by all tunnels that are up; runs as root, waits for a change of a track file (inotify-tools).
set -u
cd /var/lib/wg-exporter/track || exit 1
command -v inotifywait >/dev/null || exit 1
while :; do
    hops=""
    for at in wg0:10.1.0.1:JRI8Xc0zKP9kXk8qP84NdUQA04h6DLfFbwJn4g+/PFs= \\
        wg1:10.2.0.1:Hx/0Jho3W5iB4nI0VbRjfFjVoR2yOBWTEhSzs5Fv2mY=; do
        device=${{at%%:*}} rest=${{at#*:}}
        wg-exporter up "$device" "${{rest#*:}}" >/dev/null 2>&1
        # 2: it is not known, so it stays a next hop
        [ $? -eq 1 ] || hops="$hops nexthop via ${{rest%%:*}} dev $device"
    done
    [ -z "$hops" ] || ip route replace 10.20.0.0/16 $hops
    inotifywait -qq -t 5 -e moved_to -e delete . || :
done
```

With a `metric` for each next hop in place of one route it prefers one tunnel. The far site does the same. If the
two take different ways, flows are spread by their addresses and ports (`sysctl net.ipv4.fib_multipath_hash_policy=1`),
and a stateful filter on the way has to see both directions.

## BFD by FRR

Where a routing protocol runs through the tunnels anyway, BFD (RFC 5880) finds a cut from both sides and takes the
routes away itself. It needs no fast echoes; let the exporter watch beside it, with its usual probes.

```
bfd
 profile tunnel
  detect-multiplier {multiplier}
  transmit-interval 100
  receive-interval 100
router bgp 65001
 neighbor 10.1.0.1 remote-as 65002
 neighbor 10.1.0.1 bfd profile tunnel
 neighbor 10.2.0.1 remote-as 65002
 neighbor 10.2.0.1 bfd profile tunnel
```

| | fast echoes | BFD |
|---|---|---|
| the far side needs | nothing but answers to pings | FRR or a router |
| finds | that no answer comes, whichever direction is cut | each direction by itself, and tells the other side |
| moves | what reads it: VRRP, scripts, load balancers | routes of BGP, OSPF, static ones |
| false alarms | the table above | the same table, with the loss of one direction |

## Which alerts then hold back

- **A tunnel that is cut is still an alert**, and should be: the next cut takes the site away.
  [WireGuardPeerDown](alerts/WireGuardPeerDown.md) comes after `health.down_after`, 25 s, long after the traffic has
  moved. To have it in the morning and not at night, send it elsewhere as long as the other tunnel works, before the
  route of the pager in `alertmanager.yml`:

  ```yaml
  - matchers: [alertname="WireGuardPeerDown", peer=~"berlin-(one|two)"]
    receiver: chat
  ```

  and page where both are down, by a rule of your own:

  ```yaml
  - alert: SiteDown
    expr: count by (job) (wireguard_peer_state{{state="down", peer=~"berlin-(one|two)"}} == 1) == 2
    labels: {{severity: critical}}
  ```

- Gateways that share one key have [WireGuardAllPathsDown](alerts/WireGuardAllPathsDown.md), and WireGuardPeerDown holds
  back for them by itself; but see above why they can't have fast echoes.
- An outage that fast echoes find makes no alert of its own: a metric that is scraped every 15 s misses most of what
  they find, and what lasts is an outage of the state. Only where a peer is down by them for minutes and its state is
  not, there is [WireGuardFastEchoesUnanswered](alerts/WireGuardFastEchoesUnanswered.md), for then nobody else would say
  that the address stays away. Who moved, and when, is in the log of the exporter and of keepalived, and in
  [what happened](events.md). A peer that goes up and down again and again is
  [WireGuardPeerFlapping](alerts/WireGuardPeerFlapping.md) by its usual states.
- While you work on one of the two, [quiet](health.md#while-you-work-on-it) holds its alerts back; the address moves
  nevertheless.
"""

WAYS = (
    (
        "an address that hosts use as their gateway",
        "[VRRP](#vrrp-with-keepalived): keepalived on two gateways",
        "writes a track file",
    ),
    (
        "routes on one gateway with two tunnels",
        "[ECMP or a metric](#two-tunnels-of-one-gateway), and a script",
        "answers `wg-exporter up`",
    ),
    ("routes on both sides, of many sites", "[BGP or OSPF with BFD](#bfd-by-frr), by FRR", "watches beside it"),
    (
        "connections of a load balancer",
        "its own health check over HTTP",
        "answers [`/api/v1/peers/INTERFACE/KEY/up`](api.md#get-apiv1peersinterfacekeyup)",
    ),
)

MOVED = "0.7 to 0.8 s, ten times of ten (tests/test_failover_lab.py)"


def text() -> str:
    """The whole page."""
    measured = json.loads(RESULTS.read_text())
    usual = Fast()
    return TEXT.format(
        interval=duration(usual.interval),
        multiplier=usual.multiplier,
        detection=f"{usual.multiplier * usual.interval:g} to {(usual.multiplier + 1) * usual.interval:g} s after it",
        ways=table(("what moves", "by", "what the exporter does"), WAYS),
        most=MOST_FAST,
        echoes=MOST_ECHOES,
        cost=f"{measured['cost']['median']:.1%}".replace("%", " %"),
        date=measured["cost"]["date"],
        python=measured["cost"]["python"],
        computed=_computed(),
        simulated=_simulated(measured["simulated"]),
        burst=f"{usual.multiplier * usual.interval:g} s",
        factor=1 / lost(0.05),
        moved=MOVED,
    )


def _computed() -> str:
    head = ["lost each way", *(f"multiplier {number}" for number in MULTIPLIERS)]
    rows = [
        [
            _percent(loss),
            *(f"{_time(between(loss, number))} ({_chance(chance(loss, number))})" for number in MULTIPLIERS),
        ]
        for loss in LOSSES
    ]
    return table(head, rows)


def _simulated(rows: list[dict[str, float]]) -> str:
    cells = {(row["loss"], row["multiplier"]): row for row in rows}
    used = [number for number in MULTIPLIERS if any(number == multiplier for _, multiplier in cells)]

    def cell(loss: float, number: int) -> str:
        row = cells.get((loss, number))
        if row is None:
            return ""
        return f"{row['alarms']} ({row['hours'] * 3600 / between(loss, number):.0f}) in {row['hours']:g} hours"

    head = ["lost each way", *(f"multiplier {number}" for number in used)]
    return table(head, ([_percent(loss), *(cell(loss, number) for number in used)] for loss in LOSSES))


def _percent(part: float) -> str:
    return f"{part:.0%}".replace("%", " %")


def _chance(part: float) -> str:
    if part < 0.00005:
        return "< 0.01 %"
    digits = 2 if part < 0.001 else 1 if part < 0.1 else 0
    return f"{100 * min(part, 0.999):.{digits}f} %" if part < 0.995 else "> 99 %"


def _time(seconds: float) -> str:
    if seconds > 31_557_600_000:
        return "> 1,000 years"
    for name, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:,.0f} {name}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(run(PAGE, text, __doc__))
