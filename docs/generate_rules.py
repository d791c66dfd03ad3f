"""Write into alerts/wireguard.rules.yml what the code knows: its version, and what reasons and causes mean. With
`--check`, only compare.

The version is written by this, so that no release is made with the one before: `make lint` would fail. As to reasons
and causes, a template of Prometheus can look up a series, and knows no other table. So each is a series whose label is
its meaning: the first sentence of what the rule that finds it says of itself.
"""

from __future__ import annotations

import json
import sys

from generating import DOCS, run

from wg_exporter import __version__
from wg_exporter.causes.decide import RULES as CAUSES
from wg_exporter.health.rules import RULES
from wg_exporter.probed import SendError, Verdict

PAGE = DOCS.parent / "alerts" / "wireguard.rules.yml"
MARK = "  # What follows is written by docs/generate_rules.py (`make docs`).\n"

# Exporters are upgraded one after the other, so an hour of two versions is nothing.
VERSION = """
  # These rules are of wg-exporter {version}.
  - name: wireguard-version
    interval: 1m
    rules:
      - alert: WireGuardRulesVersionDiffers
        expr: |
          max by (job, instance, version) (last_over_time(wireguard_exporter_build_info{{version!="{version}"}}[4m]))
        for: 1h
        keep_firing_for: 5m
        labels:
          severity: info
        annotations:
          summary: A WireGuard exporter and the alert rules are of different versions.
          description: >-
            {{{{ $labels.instance }}}} runs wg-exporter {{{{ $labels.version }}}}, and these rules are of {version}.
            They may ask for what it does not tell. Upgrade the older one: `wg-exporter export rules` writes the rules
            that fit the program.
          runbook_url: http://{{{{ $labels.instance }}}}/docs/alerts/WireGuardRulesVersionDiffers
"""

GROUP = """
  # What a reason and a cause mean: a series for each, for templates to look up.
  - name: wireguard-words
    interval: 15s
    rules:
"""

WORD = """\
      - record: wireguard:{kind}_meaning
        expr: vector(1)
        labels: {{{kind}: {word}, meaning: {meaning}}}
"""

# Why nothing is known of a peer that is probed, for WireGuardProbingImpaired.
IMPAIRED = {
    Verdict.FILTERED: "The peer is heard, and no probe was ever answered.",
    SendError.NO_DEVICE: "The interface is gone or down.",
    SendError.NO_ROUTE: "This host has no route to the address that is probed, or WireGuard no endpoint.",
    SendError.NO_KEY: "No peer of the interface has the address that is probed among its allowed IPs.",
    SendError.NO_PERMISSION: "This host refuses to send probes: a firewall, or a capability is missing.",
    SendError.NO_BUFFER: "The queue of this host is full.",
    SendError.TOO_BIG: "Probes are larger than the interface or the route takes.",
    SendError.OTHER: "The log of the exporter says why they can't be sent.",
}


def meanings() -> dict[str, str]:
    """What each reason means, in one sentence."""
    found = {str(rule.reason): _first(rule.meaning) for rule in RULES if rule.reason}
    return found | {str(reason): meaning for reason, meaning in IMPAIRED.items()}


def causes() -> dict[str, str]:
    """What each cause means, in one sentence."""
    return {str(rule.cause): _first(rule.meaning) for rule in CAUSES if rule.cause.fault}


def _first(text: str) -> str:
    """The first sentence."""
    return f"{text.split('. ', maxsplit=1)[0].removesuffix('.')}."


def rules() -> str:
    """The whole rule file."""
    by_hand, mark, _generated = PAGE.read_text().partition(MARK)
    words = [
        WORD.format(kind=kind, word=word, meaning=json.dumps(meaning))
        for kind, found in (("reason", meanings()), ("cause", causes()))
        for word, meaning in found.items()
    ]
    return f"{by_hand}{mark}{VERSION.format(version=__version__)}{GROUP}{''.join(words)}"


if __name__ == "__main__":
    sys.exit(run(PAGE, rules, __doc__))
