"""`wg-exporter demo`: its flags, and the calls that follow from them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from wg_exporter.cli.common import check_flags, load_config
from wg_exporter.cli.serve import run_server

# ruff: noqa: PLC0415 - imported where they are used: `--help` answers at once, the daemon stays small


@click.command(short_help="Build a WireGuard network to look at, and serve it.")
@click.option(
    "--web.listen-address",
    "listen",
    default="127.0.0.1:9586",
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen.",
)
def demo(listen: str) -> None:
    """Build a WireGuard network to look at, and serve its metrics until Ctrl-C.

    A hub with four peers: healthy, idle, dead, never connected. Each is a network namespace of its own; nothing touches
    the network of this host, and all of it goes at the end. Where Prometheus and Alertmanager are installed, they run
    too, on loopback, and one tunnel is cut and healed on a schedule: an alert fires and resolves. Needs root.
    """
    check_flags([listen], "/metrics")

    from wg_exporter import log
    from wg_exporter.cli.demo import network
    from wg_exporter.web.listen import ListenError, bind, parse_listen

    # Find a port that is in use before the network is built.
    wanted = parse_listen(listen)
    try:
        sockets = bind([wanted])
    except ListenError as error:
        raise click.ClickException(f"{error}; or choose another with --web.listen-address") from None
    address = type(wanted)(wanted.host, sockets[0].getsockname()[1])
    for sock in sockets:
        sock.close()

    log.setup("info", "logfmt")
    at = address if address.host else f"127.0.0.1:{address.port}"
    # The rules are beside the package in a checkout, and not installed.
    from wg_exporter.daemon.doors import Asked

    checkout = Path(__file__).resolve().parents[3]
    sys.exit(
        network.run(
            lambda plan: run_server(
                Asked(load_config(plan.config_path), plan.config_path, [str(address)], "/metrics", str(plan.socket))
            ),
            f"http://{at}",
            checkout=checkout,
        )
    )
