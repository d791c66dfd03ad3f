"""What belongs to wg-exporter and is no code: alert rules, dashboards, examples for Prometheus and
Alertmanager, the docs.

They lie at the top of the checkout, where people look for them. The directories beside this file are links to those
(`docs` to `../../docs`), and the build of a package follows links: so a wheel and an sdist have the files themselves,
an editable install has those of the checkout, and git has each of them once. Which of them a package gets is under
`package-data` in pyproject.toml.

A name is the path from here, which is also that from the top of the checkout.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent

RULES = "alerts/wireguard.rules.yml"
DASHBOARDS = ("dashboards/fleet.json", "dashboards/host.json", "dashboards/peer.json")
PROVISIONING = "dashboards/provisioning.example.yml"
ALERTMANAGER = "deploy/alertmanager.example.yml"
CONFIGURATION = "docs/config.example.yml"
PROMETHEUS = (
    "deploy/prometheus/agent.yml",
    "deploy/prometheus/central.yml",
    "deploy/prometheus/federation.yml",
    "deploy/prometheus/scrape.yml",
    "deploy/prometheus/silent.rules.yml",
    "deploy/prometheus/targets.example.yml",
)

FILES = (RULES, ALERTMANAGER, *DASHBOARDS, PROVISIONING, CONFIGURATION, *PROMETHEUS)
"""All that are no pages."""


class MissingError(Exception):
    """A file is not there: the package was not built or unpacked as a whole. The message is one line."""


def read(name: str) -> str:
    """The text of a file. Raises MissingError."""
    try:
        return (ROOT / name).read_text(encoding="utf-8")
    except OSError as error:
        problem = f"{ROOT / name}: {error.strerror}; it is a part of wg-exporter: install wg-exporter again"
        raise MissingError(problem) from None


def pages() -> tuple[str, ...]:
    """The names of all pages, those of alerts first. Raises MissingError if there is none."""
    found = [*sorted(ROOT.glob("docs/alerts/*.md")), *sorted(ROOT.glob("docs/*.md"))]
    if not found:
        raise MissingError(f"{ROOT / 'docs'}: no pages; they are a part of wg-exporter: install wg-exporter again")
    return tuple(path.relative_to(ROOT).as_posix() for path in found)
