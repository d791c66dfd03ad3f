"""`wg-exporter show`: its flags, and the calls that follow from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wg_exporter.cli.common import config_option, load_config, output, planned

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.cli.show.overview import Overview

# ruff: noqa: PLC0415 - imported where they are used: `--help` answers at once, the daemon stays small


@click.command(short_help="Show devices and peers, here and now.")
@click.argument("interface", required=False)
@click.argument("peer", required=False)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.option("--watch", is_flag=True, help="Show it again and again, with rates, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2, max=3600),
    default=2,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks of --watch.",
)
def show(  # noqa: PLR0917 - click passes them by name
    interface: str | None,
    peer: str | None,
    config_file: Path | None,
    as_json: bool,  # noqa: FBT001 - a flag of the command line
    watch: bool,  # noqa: FBT001
    interval: float,
) -> None:
    """Show the WireGuard devices of this host, or one INTERFACE, or one PEER of it (its name, its key or the start of
    its key).

    One look tells the state of a peer by its interface and its latest handshake; with --watch, what goes unanswered
    tells too.

    The exit code is 1 if there is nothing to show, or no device of it could be read.
    """
    if as_json and watch:
        raise click.UsageError("--json and --watch exclude each other; run --json in a loop of your own")
    config = load_config(config_file)

    from wg_exporter import log
    from wg_exporter.cli.show import document, overview
    from wg_exporter.cli.show import screen as view
    from wg_exporter.daemon.exporter import Exporter
    from wg_exporter.plan.planner import Planner

    log.setup("error", "logfmt")
    exporter = Exporter(config, config_file)

    planner = Planner(config)

    def look() -> Overview:
        # Repeated looks show what goes unanswered, as in the daemon.
        snapshot, view, in_use = exporter.observe() if watch else exporter.look()
        planned(planner, snapshot, view)
        return overview.selected(overview.from_view(snapshot, view, in_use, planner.aims()), interface, peer)

    try:
        first = look()
        with output():
            if as_json:
                click.echo(document.to_json(first))
            elif first.devices and watch:
                view.watch(look, view.console(), interval, lambda: False)
            elif first.devices:
                view.console().print(view.render(first))
    finally:
        exporter.stop()
    reason = overview.reason_when_empty(first) if watch else overview.reason_for_failure(first)
    if reason:
        raise click.ClickException(reason)
