"""Write PAGING.md: when a page comes, and how many come for nothing. `make bench` calls this after the scrapes."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

from bench import cuts, pages

HERE = Path(__file__).parent

PAGE = """\
<!-- Written by `make bench`. Do not edit by hand. -->
# Who is woken, and when

{date}, seed {seed}.

## From a cut cable to a page

Thirty real tunnels, each on an interface of its own, cut at random moments. The exporter's defaults, a scrape every 15
s, the shipped rules and the Alertmanager of the example; a webhook is paged. Beside them, in the same run, a rule as
people write it: the handshake is older than 300 s, at once.

{cuts}
## A simulated day of 500 peers

Phones that sleep and roam, laptops that never come, servers with keepalive, 5 % loss each way on some links, two real
outages, a blip of 20 s, exporters that restart, an interface made anew, and every tenth scrape lost. The state
machine of the exporter runs on the counters, a real Prometheus engine the rules on what it says. The other three are
the WireGuard rules of [awesome-prometheus-alerts](https://github.com/samber/awesome-prometheus-alerts) (CC BY 4.0),
over the metrics that they are written for, from the same day. Where scrapes are lost, an alert over a plain gauge
ends and begins again all day long: the column of different pages counts each peer once.

{pages}"""


def main() -> None:
    """Measure both, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m bench.paging", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="another day, other moments (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=HERE / "PAGING.md", help="where the results go")
    options = parser.parse_args()
    print("cuts: about ten minutes", flush=True)
    cut = cuts.table(cuts.measure(options.seed))
    print("the simulated day: about three minutes", flush=True)
    day = pages.table(options.seed)
    date = datetime.datetime.now(datetime.UTC).date()
    options.output.write_text(PAGE.format(date=date, seed=options.seed, cuts=cut, pages=day))
    print(f"written: {options.output}")


if __name__ == "__main__":
    main()
