"""The command line: where flags become calls.

Exit codes: 0 done, 1 it could not be done, 2 wrong usage or configuration. Ctrl-C gives 130, and a reader that leaves
before the end (`show | head`) 141, as with other tools. What goes wrong is one line on standard error for each thing.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from wg_exporter import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wg_exporter.config import Config
    from wg_exporter.show.overview import Overview

# ruff: noqa: PLC0415 - imported in the commands that use them: `--help` answers at once, the daemon stays small


class UsageProblem(click.ClickException):
    """Something the user wrote can't be used: its lines, and exit code 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the lines as they are; each says where it belongs."""
        click.echo(self.message, file=file, err=file is None)


class Program(click.Group):
    """The commands, none of which ends in a traceback because somebody had seen enough."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; turn Ctrl-C and a reader that left into exit codes."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(128 + signal.SIGINT)
        except BrokenPipeError:
            _drop_output()
            ctx.exit(128 + signal.SIGPIPE)


config_option = click.option(
    "--config.file",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Configuration file (YAML). None is needed.",
)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="wg-exporter")
def main() -> None:
    """Prometheus exporter and health monitor for WireGuard tunnels."""


@main.command(short_help="Serve the metrics of every tunnel of this host.")
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
def serve(
    listen: tuple[str, ...], telemetry_path: str, config_file: Path | None, log_level: str, log_format: str
) -> None:
    """Serve the metrics of every WireGuard tunnel of this host.

    Needs CAP_NET_ADMIN, and root for userspace devices and for names out of /etc/wireguard. SIGHUP reads the
    configuration file again, SIGTERM and Ctrl-C stop.
    """
    config = _load(config_file)
    _check_flags(listen, telemetry_path)

    from wg_exporter import log

    log.setup(log_level, log_format)
    sys.exit(_serve(config, config_file, listen, telemetry_path))


@main.command(short_help="Show devices and peers, here and now.")
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
    config = _load(config_file)

    from wg_exporter import log
    from wg_exporter.probing import Planner
    from wg_exporter.service import Exporter
    from wg_exporter.show import document, overview
    from wg_exporter.show import screen as view

    log.setup("error", "logfmt")
    exporter = Exporter(config, config_file)

    planner = Planner(config)

    def look() -> Overview:
        # What goes unanswered is seen by looking again and again, and then as the daemon sees it.
        snapshot, view, in_use = exporter.observe() if watch else exporter.look()
        metas = {(seen.device.netns, seen.device.name): seen.metas for seen in view.devices}
        planner.plan(snapshot, lambda device: metas[device.netns, device.name])
        return overview.selected(overview.from_view(snapshot, view, in_use, planner.aims()), interface, peer)

    try:
        first = look()
        with _output():
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


@main.command(short_help="Is the MTU of a tunnel right, and if not, what should it be?")
@click.argument("interface", required=False)
@click.argument("peer", required=False)
@config_option
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
    as_json: bool,  # noqa: FBT001 - a flag of the command line
    pcap: Path | None,
    silent: bool,  # noqa: FBT001
    timeout: float | None,
) -> None:
    """Find out by probing, here and now, which packets the tunnels carry: all of this host, those of one INTERFACE, or
    that of one PEER (its name, its key or the start of its key). Then say what to set.

    Needs CAP_NET_RAW to probe and CAP_NET_ADMIN to read the devices. The exit code is 0 if every verdict is `ok`, and 1
    if one is not, or nothing could be checked.
    """
    config = _load(config_file)

    from wg_exporter import log
    from wg_exporter.mtu import choice, run, screen
    from wg_exporter.mtu.results import CheckError, all_ok, to_json
    from wg_exporter.service import Exporter
    from wg_exporter.show import screen as view

    log.setup("error", "logfmt")
    lacking = run.lacks_permission()
    if lacking:
        raise click.ClickException(lacking)
    exporter = Exporter(config, config_file)
    try:
        chosen = choice.choose(*exporter.look(), interface, peer)
        results = run.run(
            chosen,
            config,
            lambda: exporter.look()[0],
            screen.progress(quiet=as_json),
            silent=silent,
            timeout=timeout,
            pcap=pcap,
            warn=lambda line: click.echo(line, err=True),
        )
    except CheckError as error:
        raise click.ClickException(str(error)) from None
    finally:
        exporter.stop()
    with _output():
        if as_json:
            click.echo(to_json(results))
        else:
            screen.show(results, view.console())
    sys.exit(0 if all_ok(results) else 1)


@main.command(short_help="Build a WireGuard network to look at, and serve it.")
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
    _check_flags([listen], "/metrics")

    from wg_exporter import demo as network
    from wg_exporter import log
    from wg_exporter.web.listen import ListenError, bind, parse_listen

    # A port in use is told before the network is built, not after.
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
    # Beside the package in a checkout, which is where the demo is at home.
    rules = Path(__file__).resolve().parents[1] / "alerts"
    sys.exit(
        network.run(lambda path: _serve(_load(path), path, [str(address)], "/metrics"), f"http://{at}", rules=rules)
    )


def _serve(config: Config, config_file: Path | None, listen: Sequence[str], telemetry_path: str) -> int:
    """Serve until a signal comes; the exit code."""
    from wg_exporter import daemon
    from wg_exporter.web.listen import ListenError

    try:
        return daemon.run(config, config_file, listen, telemetry_path)
    except ListenError as error:
        raise click.ClickException(str(error)) from None


def _check_flags(listen: Sequence[str], telemetry_path: str) -> None:
    """Exit 2, with a line for each, if addresses or the path are not written as such."""
    from wg_exporter.web.listen import ListenError, parse_listen, parse_telemetry_path

    problems = []
    for parse, text in [*((parse_listen, address) for address in listen), (parse_telemetry_path, telemetry_path)]:
        try:
            parse(text)
        except ListenError as error:
            problems.append(str(error))
    if problems:
        raise UsageProblem("\n".join(problems))


def _load(config_file: Path | None) -> Config:
    """The configuration, or exit 2 with one line for each problem, before anything is opened."""
    from wg_exporter.catalogue import NAMES
    from wg_exporter.config import Config, ConfigError, load

    if config_file is None:
        return Config()
    try:
        return load(config_file, NAMES)
    except ConfigError as error:
        raise UsageProblem(str(error)) from None


@contextmanager
def _output() -> Iterator[None]:
    """Where standard output is written: a disk that is full is one line, not a traceback."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_output()
        raise click.ClickException(f"cannot write to standard output: {error.strerror}") from None


def _drop_output() -> None:
    """Send to nowhere what is still in the buffer; it would fail again when the program ends."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    main()
