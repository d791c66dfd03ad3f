"""`wg-exporter diagnose`: its flags, and the calls that follow from them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from wg_exporter.cli.common import UsageProblem, config_option, load_config, output, socket_option, with_arguments

# ruff: noqa: PLC0415 - imported where they are used: `--help` answers at once, the daemon stays small


class CouldNotLook(UsageProblem):
    """Nothing could be looked at; the exit code is 2."""


@click.command(short_help="Why does this tunnel not work, and what mends it?")
@click.argument("interface", required=False)
@click.argument("peer", required=False)
@config_option
@socket_option
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print an object, for scripts: `cause`, `confidence` (certain, likely, possible), "
    "`evidence`, `excluded` (each with `cause` and `because`), `also`, `fix`, `uncertain`, `elapsed_seconds`; and "
    "whom it is about.",
)
@click.option(
    "--pcap",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep the handshake messages, the errors about them and our own probes in this file, for Wireshark. An older "
    "capture there is replaced.",
)
@click.option("--packets", is_flag=True, help="Print each handshake message that passed, with what it means.")
@click.option(
    "--no-decrypt",
    "decrypt",
    flag_value=False,
    default=True,
    help="Do not open the calls of the far side. Without this the device's private key is read for it, so that it is "
    "known who calls and what the clock there shows.",
)
@click.pass_obj
def diagnose(  # noqa: PLR0917 - click passes them by name
    begun: float | None,
    interface: str | None,
    peer: str | None,
    config_file: Path | None,
    socket_path: str,
    as_json: bool,  # noqa: FBT001 - a flag of the command line
    pcap: Path | None,
    packets: bool,  # noqa: FBT001
    decrypt: bool,  # noqa: FBT001
) -> None:
    """Find out why the tunnel to one PEER (its name, its key or the start of its key) does not work: what is the cause,
    what shows it, what it is not, what to do, and what remains uncertain. It takes 20 seconds at most. A single word is
    a peer, or an interface with a single one.

    It asks the exporter that runs here, if there is one, then looks by itself: it watches the handshake messages on the
    wire, sends a few packets into the tunnel and to its endpoint, and reads routes, rules, sockets, the firewall and
    the names in the device's file. Nothing is changed.

    Needs root, or CAP_NET_ADMIN to read devices and rules and CAP_NET_RAW to watch and to probe; what it may not look
    at it says. The exit code is 0 if the tunnel works or nobody uses it, 1 if there is a cause, and 2 if nothing could
    be said.
    """
    if interface is None:
        raise UsageProblem("name a peer: wg-exporter diagnose [INTERFACE] PEER")
    wanted = (None, interface) if peer is None else (interface, peer)
    config = load_config(config_file)

    from wg_exporter import log
    from wg_exporter.cli.diagnose import asked, choice, result, run, screen
    from wg_exporter.cli.diagnose.deadline import Deadline
    from wg_exporter.cli.pcap import CaptureError
    from wg_exporter.cli.show import screen as view
    from wg_exporter.daemon.exporter import Exporter
    from wg_exporter.reader.host import host_sources

    log.setup("error", "logfmt")
    deadline = Deadline(time.monotonic() if begun is None else begun, time.monotonic)
    serving = asked.ask_exporter(socket_path, config_file, deadline.left(asked.SECONDS))
    if config_file is None and serving.config_file:
        config_file = Path(serving.config_file)
        config = load_config(config_file)
    progress = screen.Progress()
    exporter = Exporter(config, config_file, host_sources)
    try:
        seen = exporter.look()
        chosen = choice.choose(*seen, wanted, serving.told)
        progress.tell(deadline.elapsed(), asked.says(serving, chosen))
        found = run.run(
            chosen,
            config,
            lambda: exporter.look()[0],
            progress.tell,
            first=seen[0],
            around=asked.around(seen, chosen),
            deadline=deadline,
            options=run.Options(decrypt, pcap, packets),
            warn=lambda line: click.echo(line, err=True),
        )
    except (choice.ChoiceError, CaptureError) as error:
        raise CouldNotLook(f"Error: {with_arguments(str(error))}") from None
    finally:
        exporter.stop()
    with output():
        if as_json:
            for line in found.packets:
                progress.say(line)
            click.echo(result.to_json(found))
        else:
            screen.show(found, view.console())
    sys.exit(found.exit_code)
