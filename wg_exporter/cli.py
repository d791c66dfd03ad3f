"""The command line: where flags become calls. Exit codes: 0 done, 1 it could not be done, 2 wrong usage or configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wg_exporter import __version__

if TYPE_CHECKING:
    from wg_exporter.config import Config
    from wg_exporter.service import Exporter
    from wg_exporter.show import Overview

# Modules are imported in the commands that use them: `--help` and a bad flag answer at once, the daemon stays small.

DEFAULT_LISTEN = ":9586"

KERNEL_KINDS = ("wireguard", "amneziawg")

config_option = click.option(
    "--config.file",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Configuration file (YAML). None is needed.",
)


class UsageProblem(click.ClickException):
    """Something the user wrote can't be used: its lines, and exit code 2."""

    exit_code = 2

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Print the lines as they are; each says where it belongs."""
        click.echo(self.message, err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="wg-exporter")
def main() -> None:
    """Prometheus exporter and health monitor for WireGuard tunnels."""


@main.command()
@click.option(
    "--web.listen-address",
    "listen",
    multiple=True,
    default=(DEFAULT_LISTEN,),
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen, such as :9586, 127.0.0.1:9586 or [::1]:9586. May be given several times.",
)
@click.option(
    "--web.telemetry-path",
    "telemetry_path",
    default="/metrics",
    show_default=True,
    metavar="PATH",
    help="Path of the metrics.",
)
@config_option
@click.option(
    "--log.level",
    "log_level",
    type=click.Choice(["debug", "info", "warn", "error"]),
    default="info",
    show_default=True,
    help="Log only messages of this level or above.",
)
@click.option(
    "--log.format",
    "log_format",
    type=click.Choice(["logfmt", "json"]),
    default="logfmt",
    show_default=True,
    help="Format of the log, on standard error.",
)
def serve(listen: tuple[str, ...], telemetry_path: str, config_file: Path | None, log_level: str, log_format: str) -> None:
    """Serve every WireGuard tunnel of this host at /metrics."""
    config = _load(config_file)

    from wg_exporter import daemon, log
    from wg_exporter.listen import ListenError

    log.setup(log_level, log_format)
    try:
        sys.exit(daemon.run(config, config_file, listen, telemetry_path))
    except ListenError as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.argument("interface", required=False)
@click.argument("peer", required=False)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.option("--watch", is_flag=True, help="Show it again and again, with rates, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2, max=3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks of --watch.",
)
def show(
    interface: str | None,
    peer: str | None,
    config_file: Path | None,
    as_json: bool,  # noqa: FBT001 - a flag of the command line
    watch: bool,  # noqa: FBT001
    interval: float,
) -> None:
    """Show the WireGuard devices of this host, or one INTERFACE, or one PEER of it (its name or key)."""
    from wg_exporter import log, show as view
    from wg_exporter.service import Exporter

    if as_json and watch:
        raise click.UsageError("--json and --watch exclude each other; run --json in a loop of your own")
    log.setup("error", "logfmt")
    exporter = Exporter(_load(config_file), config_file)

    def look() -> Overview:
        return view.select(_overview(exporter), interface, peer)

    try:
        if watch:
            view.watch(look, view.console(), interval, lambda: False)
            return
        overview = _overview(exporter)
        if as_json:
            chosen = view.select(overview, interface, peer) if overview.devices else overview
            click.echo(view.to_json(chosen))
        else:
            view.console().print(view.render(view.select(overview, interface, peer)))
    except view.NothingSelected as nothing:
        raise click.ClickException(str(nothing)) from None
    finally:
        exporter.stop()
    if not overview.devices and any(not outcome.success for outcome in overview.outcomes):
        raise click.ClickException(view.reason_when_empty(overview))


def _overview(exporter: Exporter) -> Overview:
    """One look, as a person wants to see it."""
    from wg_exporter.show import DeviceRow, Overview, PeerRow

    snapshot, view, config = exporter.look()
    rows = [
        DeviceRow(row.device, None, row.link, tuple(map(PeerRow, row.peers, *zip(*row.metas, strict=True))))
        if row.peers
        else DeviceRow(row.device, None, row.link, ())
        for row in view.devices
    ]
    rows += [DeviceRow(None, failed, link, ()) for failed, link in view.failed]
    hidden = [
        link.name for link in snapshot.links.values() if link.kind in KERNEL_KINDS and not config.interfaces.wanted(link.name)
    ]
    problems = [outcome.problem for outcome in snapshot.outcomes if outcome.problem]
    problems += [problem for file in snapshot.conf for problem in file.problems]
    problems += [f"{name} is gone" + (f" from namespace {netns}" if netns else "") for netns, name in view.missing]
    return Overview(snapshot.wall, tuple(rows), snapshot.outcomes, tuple(problems), tuple(hidden))


def _load(config_file: Path | None) -> Config:
    """The configuration, or exit 2 with one line for each problem, before anything is opened."""
    from wg_exporter.catalogue import METRICS
    from wg_exporter.config import Config, ConfigError, load

    if config_file is None:
        return Config()
    try:
        return load(config_file, [metric.name for metric in METRICS])
    except ConfigError as error:
        raise UsageProblem(str(error)) from None


if __name__ == "__main__":
    main()
