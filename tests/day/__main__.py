"""Live through a day and say who was woken: `python -m tests.day --seed 7`."""

from __future__ import annotations

import argparse
import sys

from tests.day.report import RULES, judged, lived, lived_at_both_ends


def main() -> None:
    """Exit 1 if a page was false or an outage missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.day", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="another day (default: %(default)s)")
    parser.add_argument("--no-probes", action="store_true", help="with the prober off")
    parser.add_argument("--scrape", type=float, default=15.0, help="seconds between scrapes (default: %(default)s)")
    parser.add_argument("--both-ends", action="store_true", help="with an exporter at the far ends of some tunnels")
    options = parser.parse_args()
    if options.both_ends:
        day, pages = lived_at_both_ends(options.seed, RULES, scrape=options.scrape)
    else:
        day, pages = lived(options.seed, RULES, probing=not options.no_probes, scrape=options.scrape)
    for outage in (*day.truth.outages, day.truth.blip):
        print(f"{'outage' if outage in day.truth.outages else 'blip'}: {outage}")
    for noticed in day.downs:
        print(f"down: {noticed}")
    for page in pages:
        print(f"page: {page}")
    verdict = judged(day.truth, pages, early=max(0.0, options.scrape - 15.0))
    print(verdict)
    if not verdict.right:
        sys.exit(1)


if __name__ == "__main__":
    main()
