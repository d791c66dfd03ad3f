"""`wg-exporter mtu`: its flags, and the calls that follow from them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from wg_exporter.cli.common import config_option, load_config, output, socket_option, with_arguments

# ruff: noqa: PLC0415 - imported where they are used: `--help` answers at once, the daemon stays small


@click.command(short_help="Is the MTU of a tunnel right, and if not, what should it be?")
@click.argument("interface", required=False)
@click.argument("peer", required=False)
@config_option
@socket_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.option(
    "--pcap",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep all probes and their answers in this file, for Wireshark. An older capture there is replaced.",
)
@click.option(
    "--silent-peers",
    "silent",
    is_flag=True,
    help="Find out through the byte counters whether full-size packets reach peers that answer no probe. Takes one to "
    "three minutes, and works only while the tunnel is quiet.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1, max=86400),
    metavar="SECONDS",
    help="Tell what is known after this time. By default a minute, more for many peers, 5 minutes more with "
    "--silent-peers.",
)
def mtu(  # noqa: PLR0917 - click passes them by name
    interface: str | None,
    peer: str | None,
    config_file: Path | None,
    socket_path: str,
    as_json: bool,  # noqa: FBT001 - a flag of the command line
    pcap: Path | None,
    silent: bool,  # noqa: FBT001
    timeout: float | None,
) -> None:
    """Find out by probing, here and now, which packets the tunnels carry: all of this host, those of one INTERFACE, or
    that of one PEER (its name, its key or the start of its key). Then say what to set. A single word is an interface
    or, if there is none of that name, a peer whose name or key is unique.

    Where an exporter runs, its configuration is used unless another is given with --config.file, each peer is shown
    with the state it has there, and with --silent-peers it is asked not to probe meanwhile.

    Needs CAP_NET_RAW to probe and CAP_NET_ADMIN to read the devices. The exit code is 0 if every verdict is `ok`, and 1
    if one is not, or nothing could be checked. A peer that can't be probed counts only if it is expected up or named.
    """
    config = load_config(config_file)

    from wg_exporter import log
    from wg_exporter.cli.mtu import choice, run, running, screen
    from wg_exporter.cli.mtu.results import CheckError, all_ok, to_json
    from wg_exporter.cli.pcap import CaptureError
    from wg_exporter.cli.show import screen as view
    from wg_exporter.daemon.exporter import Exporter
    from wg_exporter.reader.host import host_sources
    from wg_exporter.status import words

    log.setup("error", "logfmt")
    lacking = run.lacks_permission()
    if lacking:
        raise click.ClickException(lacking)
    serving = running.find(socket_path, config_file)
    if config_file is None and serving.config_file:
        config_file = Path(serving.config_file)
        config = load_config(config_file)
    exporter = Exporter(config, config_file, host_sources)
    try:
        chosen = choice.choose(*exporter.look(), interface, peer, states=serving.states)
        click.echo(words.plain(serving.note), err=True)
        results = run.run(
            chosen,
            config,
            lambda: exporter.look()[0],
            screen.progress(quiet=as_json),
            silent=silent,
            timeout=timeout,
            pcap=pcap,
            quiet=serving.quiet,
            warn=lambda line: click.echo(line, err=True),
        )
    except (CheckError, CaptureError) as error:
        raise click.ClickException(with_arguments(str(error))) from None
    finally:
        exporter.stop()
    with output():
        if as_json:
            click.echo(to_json(results))
        else:
            screen.show(results, view.console())
    sys.exit(0 if all_ok(results) else 1)
