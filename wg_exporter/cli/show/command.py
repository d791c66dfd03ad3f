"""`wg-exporter show`: its flags, and the calls that follow from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wg_exporter.cli.common import config_option, load_config, output, socket_option, with_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.status.rows import Overview

# ruff: noqa: PLC0415 - imported where they are used: `--help` answers at once, the daemon stays small


@click.command(short_help="Show devices and peers, here and now.")
@click.argument("interface", required=False)
@click.argument("peer", required=False)
@config_option
@socket_option
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
    socket_path: str,
    as_json: bool,  # noqa: FBT001 - a flag of the command line
    watch: bool,  # noqa: FBT001
    interval: float,
) -> None:
    """Show the WireGuard devices of this host, or one INTERFACE, or one PEER (its name, its key or the start of its
    key). A single word is an interface or, if there is none of that name, a peer whose name or key is unique.

    It asks the exporter that runs here, so it says what `/metrics` and a page say. Where none runs, or one with another
    `--config.file` than is given, it looks for itself, and says so. One look can't tell whether a peer is up: its state
    is `?` (null in JSON). With --watch, what goes unanswered tells that. Of one PEER it shows the last events as well.

    The exit code is 1 if there is nothing to show, or no device of it could be read.
    """
    given = click.get_current_context().get_parameter_source("interval") is click.core.ParameterSource.COMMANDLINE
    if given and not watch:
        raise click.UsageError("--interval is the time between two looks of --watch; add --watch")
    if as_json and watch:
        raise click.UsageError("--json and --watch exclude each other; run --json in a loop of your own")
    config = load_config(config_file)

    from wg_exporter import log
    from wg_exporter.cli.show import overview
    from wg_exporter.cli.show import screen as view
    from wg_exporter.cli.show.events import last_events
    from wg_exporter.cli.show.looking import Looks
    from wg_exporter.status import document

    log.setup("error", "logfmt")
    looks = Looks(config, config_file, socket_path, again=watch)

    def look() -> Overview:
        return overview.selected(looks.look(), interface, peer)

    try:
        first = look()
        with output():
            if as_json:
                click.echo(document.to_json(first))
            elif first.devices and watch:
                view.watch(look, view.console(), interval, lambda: False)
            elif first.devices:
                view.console().print(view.render(first, events=last_events(socket_path, first)))
    finally:
        looks.close()
    reason = overview.reason_when_empty(first) if watch else overview.reason_for_failure(first)
    if reason:
        raise click.ClickException(with_arguments(reason))
