"""`wg-exporter drift`: its flags, whom it asks, and how it ends."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from wg_exporter.cli.common import config_option, load_config, output, socket_option, with_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.config import Config
    from wg_exporter.status.rows import Overview

# ruff: noqa: PLC0415 - imported where they are used: `--help` answers at once, the daemon stays small


class _CouldNotLook(click.ClickException):
    exit_code = 2


@click.command(short_help="Show how devices differ from the files that describe them.")
@click.argument("interface", required=False)
@config_option
@socket_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def drift(
    interface: str | None,
    config_file: Path | None,
    socket_path: str,
    as_json: bool,  # noqa: FBT001 - a flag of the command line
) -> None:
    """Show how the WireGuard devices of this host, or one INTERFACE, differ from the files that describe them:
    /etc/wireguard/INTERFACE.conf, or a .netdev of systemd-networkd with its drop-ins. For each difference it shows what
    the file says (-) and what the device says (+), then the commands that load the file. Of secret keys it shows only
    whether they differ.

    It asks the exporter that runs here. Where none runs it looks for itself, which takes root.

    The exit code is 0 if nothing differs, 1 if something does, and 2 if it could not look: nothing could be read, or no
    file describes the INTERFACE. docs/drift.md says what counts as a difference.
    """
    config = load_config(config_file)

    from wg_exporter import log
    from wg_exporter.cli.drift import screen
    from wg_exporter.cli.drift.results import exit_code, results
    from wg_exporter.cli.show.overview import reason_when_empty
    from wg_exporter.status import words
    from wg_exporter.status.rows import whose

    log.setup("error", "logfmt")
    overview = _look(config, config_file, socket_path)
    if not overview.devices:
        raise _CouldNotLook(with_arguments(reason_when_empty(overview, "drift")))
    rows = tuple(row for row in overview.devices if interface in (None, whose(row)[1]))
    if not rows:
        there = words.first_of(dict.fromkeys(whose(row)[1] for row in overview.devices))
        raise _CouldNotLook(f"no WireGuard interface {words.plain(interface or '')}; there is: {there}")
    found = results(overview._replace(devices=rows))
    with output():
        if as_json:
            click.echo(screen.to_json(found, overview.unasked, overview.wall))
        else:
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            for line in screen.lines(found):
                click.echo(line.encode(encoding, "backslashreplace").decode(encoding))
    raise SystemExit(exit_code(found, interface))


def _look(config: Config, config_file: Path | None, socket_path: str) -> Overview:
    from wg_exporter.cli.show.looking import Looks

    looks = Looks(config, config_file, socket_path, again=False)
    try:
        overview = looks.look()
        if overview.teller is None:
            overview = looks.look()  # secret keys are looked at once it is known which devices have files
    finally:
        looks.close()
    return overview
