"""Write docs/causes.md from the table of causes. With `--check`, only compare.

What each cause means, how it is told and what to do is in wg_exporter/causes/, a file for each subject.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generating import DOCS, run, table

from wg_exporter.causes import calls, data, fine, leaves, refused, silence, taken
from wg_exporter.causes.cause import Confidence
from wg_exporter.causes.decide import NO_PROOF, RULES
from wg_exporter.causes.rule import fill
from wg_exporter.daemon.causes import AGAIN_SECONDS, AT_ONCE, COMPARED_SECONDS, SEARCH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wg_exporter.causes.rule import Rule

MEASURED = Path(__file__).parents[1] / "bench/causes.json"

PAGE = """\
<!-- Written by docs/generate_causes.py from wg_exporter/causes/. Do not edit by hand. -->
# Causes

The [state and the reason](health.md) say what is seen of a peer: it does not answer, nothing leaves, data is lost. The
**cause** says why, and what to do: a port that is closed, a filter here, another preshared key, a host name that moved.
It stands

- in the page that Alertmanager sends, in the log (`msg="cause found"`, and `cause=` in `msg="peer changed"`),
- on the page at `http://HOST:9586/` and in `wg-exporter show INTERFACE PEER`, with evidence and commands,
- in the metric `wireguard_peer_cause{{cause="..."}}`, which is 1 for the one that was found and absent otherwise. A
  cause that is only [possible](#how-it-is-sought) is in no metric and so in no page: others fit as well,
- in [`/api/v1/status`](api.md#causepart), with what was excluded.

`wg-exporter diagnose INTERFACE PEER` looks closer, as it may do what the exporter never does by itself: it sends a
packet so that a handshake follows, reads the firewall, and has the caller's message opened with the private key.

## How it is sought

When a peer becomes `down` or `degraded` its cause is sought in the background, and again when something else is seen of
it, every {again:g} s at most. Of all peers {at_once:d} are sought for at a time, those first that explain most: down
before degraded, and a hub (wide allowed IPs) before a laptop. Where the reason is the cause itself, as of an interface
that is gone, nothing has to be sought. No page waits for it: the state is told first, the cause some seconds later.

Nothing on the host is changed, and nothing is sent. What is used: WireGuard's counters, the probes, the handshake
messages that are seen on the wire, ICMP errors, and from the reader routes, the UDP port, addresses, rp_filter and its
counters, twice, {compared:g} s apart. Whoever is sought for is
[watched on the wire](probing.md#what-is-seen-on-the-wire) for {search:g} s, if that is not so already. What was proved
stays while nothing speaks against it.

Where the running device [differs from its file](drift.md) in something that may be why (the endpoint of a peer that is
silent, the private key where the far side calls another, an allowed IP that is not there), that is told as evidence,
and `wg-exporter drift` comes first of what to do. It never decides: nobody knows here which of the two is right.

A cause is named only with proof, and never for a peer that works. What strangers can forge proves nothing by itself: a
response counts where it answers an initiation that was seen leaving, an ICMP error where it quotes one.

| confidence | meaning |
|---|---|
{confidence}
Where nothing is proved and nothing comes back it is [`silent`](#silent), with what was excluded and what would decide.

## Which filters are looked at

The exporter reads no ruleset: it tells a filter of this host by what WireGuard counts and what is seen on the wire.
`diagnose` reads the rules of nftables, those of iptables-nft among them, in the namespace of the outer packets and in
that of the interface, and follows packets through them as the kernel would:

- outer ones: an initiation and a data message to the endpoint through `output`, `postrouting` and `egress`, and their
  answers through `ingress`, `prerouting` and `input`;
- inner ones: an echo of this host itself to the target, and its answer, through the same.

A rule is named if it certainly ends one of them, or may and its counter grew meanwhile. Not looked at are:

- **Packets that this host forwards for others**, as a gateway does. A chain at `forward` can drop what users behind it
  send while the gateway's own packets pass, and the tunnel is `fine`. Where the host forwards and has such a chain,
  that stands under what remains uncertain; `nft list ruleset` shows the chain.
- **Rules of iptables-legacy**, of which nftables knows nothing. Where one of its tables `filter`, `mangle`, `raw` and
  `security` is loaded, it stands under what remains uncertain that these were not read, and no cause rests on there
  being no filter. `iptables-legacy-save` and `ip6tables-legacy-save` print them.
- **tc filters, eBPF (XDP, tc, cgroups), ebtables, and the families `bridge` and `arp` of nftables**, and the filters of
  other hosts. They show only by what they drop.

## All causes

The first that is certain or likely is named: who has no route sends nothing, and who sends nothing hears nothing.

{index}
{sections}
{made}"""

MADE = """\
## Made real, and what it was called

Each cause was made real between two hosts in network namespaces, in two builds that differ (wireguard-go;
tests/causes_lab.py; `python -m bench.diagnosis`), on a machine that ran other tests too. With a `*`: a process sent
what such a host sends.

- `wg-exporter diagnose` was asked why. It looked by itself, but where the table says that an exporter runs, which it
  asked. {right} of {all} were called what they are, the slowest after {slowest} s, half of them within {median} s.
- **An exporter alone** watched the same tunnel from before the fault on, with its defaults and the peer expected up:
  seconds from the fault, or from its start where the tunnel never worked, to the cause in `wireguard_peer_cause`. Half
  of them were named within {alone_median} s. It opens nothing with a private key and sends nothing but its probes;
  where it can't know the cause by that, it names none.

{rows}"""

CONFIDENCE = {
    Confidence.CERTAIN: "nothing else gives this evidence",
    Confidence.LIKELY: "something else could give it, and is much rarer",
    Confidence.POSSIBLE: "others fit as well; they are named beside it, with what would decide",
}

SUBJECTS: tuple[tuple[str, tuple[Rule, ...]], ...] = (
    ("Nothing leaves this host", (*leaves.RULES, *leaves.INNER_RULES)),
    ("It leaves and is refused", refused.RULES),
    ("It leaves, and nothing comes back", (*silence.RULES, *silence.LAST_RULES)),
    ("Something comes back, and is not taken", taken.RULES),
    ("The far side calls, and gets nowhere", calls.RULES),
    ("The session is fine, and the data is not", data.RULES),
    ("Nothing is wrong, or nothing is known", (*fine.RULES, NO_PROOF)),
)


def page() -> str:
    """The page."""
    return PAGE.format(
        again=AGAIN_SECONDS,
        at_once=AT_ONCE,
        compared=COMPARED_SECONDS,
        search=SEARCH_SECONDS,
        confidence="".join(f"| `{one}` | {CONFIDENCE[one]} |\n" for one in Confidence),
        index=table(("cause", "meaning"), _index()),
        sections="\n".join(_subject(name, rules) for name, rules in SUBJECTS),
        made=_made(json.loads(MEASURED.read_text())),
    )


def _made(rows: list[dict[str, Any]]) -> str:
    """What `python -m bench.diagnosis` has seen."""
    seconds = [row["seconds"] for row in rows]
    return MADE.format(
        right=sum(row["named"] in {row["cause"], *row["also"]} for row in rows),
        all=len(rows),
        slowest=max(seconds),
        median=round(statistics.median(seconds), 1),
        alone_median=round(statistics.median(row["exporter"][-1][1] for row in rows if row.get("exporter"))),
        rows=table(("cause", "made", "an exporter alone", "s", "`diagnose`", "s"), map(_row, rows)),
    )


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    made = row["made"] + (" *" if row["emulated"] else "")
    exporter, after = row["alone"] or "nothing, as it should", ""
    if "exporter" not in row:
        exporter = "not measured"
    elif row["exporter"]:
        exporter = ", then ".join(f"`{cause}`" for cause, _ in row["exporter"])
        after = ", ".join(f"{seconds:.0f}" for _, seconds in row["exporter"])
    return f"`{row['cause']}`", made, exporter, after, f"`{row['named']}`", f"{row['seconds']:.1f}"


def _index() -> Iterable[tuple[str, str]]:
    for rule in (*RULES, NO_PROOF):
        yield f"[`{rule.cause}`](#{rule.cause})", rule.meaning.replace("{{", "{").replace("}}", "}")


def _subject(name: str, rules: tuple[Rule, ...]) -> str:
    return f"## {name}\n\n" + "\n".join(map(_section, rules))


def _section(rule: Rule) -> str:
    lines = [f"### {rule.cause}", "", rule.meaning, "", f"How it is told: {rule.told_by}", ""]
    if rule.fix:
        lines += ["What to do:", "", *(f"- {_wrapped(line)}" for line in fill(rule.fix, None)), ""]
    return "\n".join(lines)


def _wrapped(line: str) -> str:
    return re.sub(r"\s+", " ", line)


if __name__ == "__main__":
    sys.exit(run(DOCS / "causes.md", page, __doc__))
