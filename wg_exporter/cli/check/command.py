"""`wg-exporter check`: its flags, and the calls that follow from them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from wg_exporter.cli.common import SOCKET, FilePath, check_flags, config_option, output

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.cli.check.facts import Facts
    from wg_exporter.cli.check.finding import Report
    from wg_exporter.cli.check.look.alone import Wish

# ruff: noqa: PLC0415 - imported where they are used: `--help` answers at once, the daemon stays small


@click.command(
    short_help="Check configuration and host before it matters.", context_settings={"allow_extra_args": True}
)
@config_option
@click.option(
    "--web.config.file",
    "web_file",
    type=FilePath(),
    metavar="FILE",
    help="Web configuration.",
)
@click.option("--host", is_flag=True, help="Check this host, too, where a file is given.")
@click.option(
    "--web.listen-address",
    "listen",
    multiple=True,
    metavar="ADDRESS",
    help="Where the exporter listens. By default as the one that runs does, or :9586. May be given several times.",
)
@click.option(
    "--socket",
    "socket_path",
    default=SOCKET,
    show_default=True,
    metavar="PATH",
    help="Ask the exporter that serves on this Unix socket. Empty: ask none, and look.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning"]),
    default="warning",
    show_default=True,
    help="The least severity that makes the exit code 1.",
)
@click.option(
    "--page",
    metavar="URL",
    help="Check nothing, but send a test page by the Alertmanager at this URL, such as http://localhost:9093, and say "
    "who gets it. It ends after five minutes.",
)
def check(  # noqa: PLR0917 - click passes them by name
    config_file: Path | None,
    web_file: Path | None,
    host: bool,  # noqa: FBT001 - a flag of the command line
    listen: tuple[str, ...],
    socket_path: str,
    as_json: bool,  # noqa: FBT001
    fail_on: str,
    page: str | None,
) -> None:
    """Say what is wrong with the configuration, this host and the exporter on it, and how to mend it.

    Without a file it checks this host, as the exporter that runs here has it: its configuration, its addresses, what it
    may read, WireGuard's files, namespaces, the clock, and whether anything can page. Run it as root; what it can't
    find out is said, and is never taken for well. It changes nothing.

    With --config.file or --web.config.file it checks these files alone, for whatever host they are: it takes no right,
    and no exporter. With --host both.

    The exit code is 0 if nothing was found but notes, 1 if there are errors or warnings (--fail-on), and 2 if a
    configuration can't be used. docs/check.md explains each finding.
    """
    if more := click.get_current_context().args:
        raise click.UsageError(f"{more[0]} stands alone; did you mean --config.file={more[0]}?")
    if page is not None:
        if any((config_file, web_file, host, listen, as_json)):
            raise click.UsageError("--page checks nothing; give it alone")
        _page(page)
        return
    files_only = bool(config_file or web_file) and not host
    if files_only and listen:
        raise click.UsageError("--web.listen-address is about this host; add --host")
    check_flags(listen, "/metrics")

    from wg_exporter import log
    from wg_exporter.cli.check import checks
    from wg_exporter.cli.check.finding import WORST_FIRST
    from wg_exporter.cli.check.look import alone

    log.setup("error", "logfmt")
    wish = alone.Wish(config_file, web_file, listen, socket_path)
    report = checks.judge(alone.of_files(wish) if files_only else _host(wish))
    with output():
        _print(report, as_json=as_json)
    if checks.unusable(report):
        sys.exit(2)
    failing = WORST_FIRST[: [str(severity) for severity in WORST_FIRST].index(fail_on) + 1]
    sys.exit(1 if any(finding.severity in failing for finding in report.findings) else 0)


def _host(wish: Wish) -> Facts:
    from wg_exporter.cli.check.look import gather

    return gather.of_host(wish)


def _print(report: Report, *, as_json: bool) -> None:
    from wg_exporter.cli.check import document, screen
    from wg_exporter.cli.show.screen import console

    if as_json:
        click.echo(document.to_json(report))
        return
    terminal = console()
    if terminal.is_terminal:
        for block in screen.blocks(report, terminal.encoding):
            terminal.print(block)
    else:
        for line in screen.lines(report):
            click.echo(line)


def _page(url: str) -> None:
    from wg_exporter.cli.check.pager import NAME, PagerError, page
    from wg_exporter.status.words import first_of

    try:
        sent = page(url)
    except PagerError as error:
        raise click.ClickException(str(error)) from None
    if not sent.receivers:
        raise click.ClickException("Alertmanager has taken the page, and tells nobody; look at its routes")
    ends = sent.ends.astimezone()
    with output():
        click.echo(f"{NAME} was sent to {first_of(sent.receivers)}; it ends by itself at {ends:%H:%M:%S}.")
        click.echo("Does it reach the phone? If not, look at the receiver in Alertmanager, and at its log.")
