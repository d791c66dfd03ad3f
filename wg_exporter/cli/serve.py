"""`wg-exporter serve`: the daemon, from its flags to its exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from wg_exporter.cli.common import SOCKET, STORAGE, FilePath, check_flags, config_option, load_config

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.daemon.doors import Asked

# ruff: noqa: PLC0415 - imported where they are used: `--help` answers at once, the daemon stays small


@click.command(short_help="Serve the metrics of every tunnel of this host.")
@click.option(
    "--web.listen-address",
    "listen",
    multiple=True,
    default=(":9586",),
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen, such as :9586, 127.0.0.1:9586 or [::1]:9586. May be given several times.",
)
@click.option(
    "--web.systemd-socket",
    "systemd_socket",
    is_flag=True,
    help="Listen on the sockets that systemd passes (wg-exporter.socket), and not on --web.listen-address.",
)
@click.option(
    "--web.telemetry-path",
    "telemetry_path",
    default="/metrics",
    show_default=True,
    metavar="PATH",
    help="Path of the metrics.",
)
@click.option(
    "--web.unix-socket",
    "unix_socket",
    default=SOCKET,
    show_default=True,
    metavar="PATH",
    help="Unix socket on which `show`, `mtu` and `quiet` ask; only its owner may. Empty: none.",
)
@click.option(
    "--web.config.file",
    "web_file",
    type=FilePath(),
    metavar="FILE",
    help="TLS, passwords and a limit of requests, in the format of all Prometheus exporters.",
)
@click.option(
    "--web.enable-lifecycle",
    "lifecycle",
    is_flag=True,
    help="Answer POST /-/reload over TCP too, not on the Unix socket alone.",
)
@click.option(
    "--storage.path",
    "storage_path",
    default=STORAGE,
    show_default=True,
    metavar="DIRECTORY",
    help="Directory for what survives a restart: what `quiet` was asked for. Empty: none.",
)
@config_option
@click.option(
    "--log.level",
    "log_level",
    type=click.Choice(["debug", "info", "warn", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    help="Log only messages of this level or above.",
)
@click.option(
    "--log.format",
    "log_format",
    type=click.Choice(["logfmt", "json"], case_sensitive=False),
    default="logfmt",
    show_default=True,
    help="Format of the log, on standard error.",
)
@click.option(
    "--no-privsep",
    "one_process",
    is_flag=True,
    help="As root too, read and serve in one process. Otherwise what reads keys is apart from what answers strangers.",
)
def serve(  # noqa: PLR0917 - click passes them by name
    listen: tuple[str, ...],
    systemd_socket: bool,  # noqa: FBT001 - click passes it by name
    telemetry_path: str,
    unix_socket: str,
    web_file: Path | None,
    lifecycle: bool,  # noqa: FBT001 - click passes it by name
    storage_path: str,
    config_file: Path | None,
    log_level: str,
    log_format: str,
    one_process: bool,  # noqa: FBT001 - click passes it by name
) -> None:
    """Serve the metrics of every WireGuard tunnel of this host.

    Needs CAP_NET_ADMIN, and root for userspace devices and for names out of /etc/wireguard. SIGHUP and POST /-/reload
    read the configuration file again, SIGTERM and Ctrl-C stop.
    """
    config = load_config(config_file)
    check_flags(listen, telemetry_path)

    from wg_exporter import log
    from wg_exporter.daemon.doors import Asked

    log.setup(log_level, log_format)
    log.catch_threads()
    asked = Asked(
        config, config_file, listen, telemetry_path, unix_socket, web_file, lifecycle, systemd_socket, storage_path
    )
    sys.exit(run_server(asked, privsep=not one_process))


def run_server(asked: Asked, *, privsep: bool = False) -> int:
    """Serve until a signal comes; the exit code. `privsep`: as processes of different users, if that is permitted; then
    this process must have no other thread.
    """
    from wg_exporter.config.web import WebConfigError
    from wg_exporter.linux.systemd import PassedSocketsError
    from wg_exporter.log import Log
    from wg_exporter.web.listen import ListenError

    try:
        if privsep and _can_part():
            from wg_exporter.supervisor import serve as supervisor

            return supervisor.run(asked)
        if privsep and os.geteuid() == 0:
            Log(__name__).warn(
                "one process reads keys and answers strangers",
                problem="it may not change its user",
                fix="leave it CAP_SETUID, CAP_SETGID and CAP_KILL, as the systemd unit does, or say --no-privsep",
            )
        from wg_exporter.daemon import alone

        return alone.run(asked)
    except ListenError as error:
        raise click.ClickException(str(error)) from None
    except WebConfigError as error:
        click.echo(str(error), err=True)
        return 2
    except PassedSocketsError as error:
        click.echo(f"Error: {error}", err=True)
        return 2


def _can_part() -> bool:
    from wg_exporter.linux.privileges import can_be_several_users

    return can_be_several_users()
