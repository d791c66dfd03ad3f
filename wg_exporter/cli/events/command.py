"""`wg-exporter events`: its flags, whom it asks, and how it ends."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from wg_exporter.cli.common import START_IT, STORAGE, UsageProblem, again, output, socket_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.cli.events.choice import Choice
    from wg_exporter.events import Event
    from wg_exporter.status.rows import Overview

# ruff: noqa: PLC0415 - imported where they are used: `--help` answers at once, the daemon stays small

AGAIN = 1.0  # seconds from one try to follow to the next, where the exporter is gone


@click.command(short_help="Show what happened: states, causes, roaming, reloads, restarts.")
@click.argument("interface", required=False)
@click.argument("peer", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option(
    "--since",
    metavar="WHEN",
    help="Only what happened since: 2h, 1d, 22:00 (the last one), yesterday, 2026-01-31, or with a time of day.",
)
@click.option("--netns", metavar="NAME", help="Only in this network namespace, as the configuration names it.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each, for scripts.")
@socket_option
@click.option(
    "--storage.path",
    "storage_path",
    default=STORAGE,
    show_default=True,
    metavar="PATH",
    help="Where no exporter runs: the directory in which the last one kept its events.",
)
def events(  # noqa: PLR0917 - click passes them by name
    interface: str | None,
    peer: str | None,
    follow: bool,  # noqa: FBT001 - a flag of the command line
    since: str | None,
    netns: str | None,
    as_json: bool,  # noqa: FBT001
    socket_path: str,
    storage_path: str,
) -> None:
    """Show the last 1,000 events of this host, of one INTERFACE, or of one PEER (its name of now or of then, its key or
    the start of its key, 4 characters at least), the oldest first: changes of states and of their reasons, causes,
    roaming, verdicts on the MTU, drift, quiets, reloads, and restarts of the exporter and its processes. Many peers to
    which the same happened at once are one line; with a PEER it shows what happened to the whole interface, too. Times
    are by the clock of this host.

    It asks the exporter that runs here. Where none runs it reads what the last one kept, which takes root.

    The exit code is 1 if there is nobody to ask and nothing to read, or nothing matches.
    """
    start = _start(since)

    from wg_exporter import log
    from wg_exporter.cli import ask
    from wg_exporter.status import words

    log.setup("error", "logfmt")
    query = {} if start is None else {"since": f"{start:.3f}"}
    try:
        found = ask.events(socket_path, query)
    except ask.NotPermittedError as error:
        raise click.ClickException(words.plain(f"{error}; run: {again()}")) from None
    except ask.RefusedError as error:
        raise click.ClickException(words.plain(str(error))) from None
    except ask.NotAskedError as error:
        if follow:
            raise click.ClickException(words.plain(f"{error}, so there is nobody to follow; {START_IT}")) from None
        found = _kept(storage_path, str(error), start)
        choice = _choice(interface, peer, netns, found, None)
    else:
        overview = _overview(socket_path) if interface is not None else None
        choice = _choice(interface, peer, netns, found, overview)
    shown = [one for one in found if choice.takes(one)]
    printer = _Printer(shown, as_json=as_json)
    with output():
        printer.begin(follow=follow, since=since)
        if follow:
            number = found[-1].number if found else 0
            for one in _following(socket_path, number, query if not found else {}):
                if choice.takes(one):
                    printer.show(one)


def _start(text: str | None) -> float | None:
    """Raises UsageProblem."""
    if text is None:
        return None
    from wg_exporter.cli.events.when import FORMS, since

    found = since(text, time.time())
    if found is None:
        raise UsageProblem(f"--since: neither a time nor a duration; write {FORMS}")
    return max(found, 0.0)


def _overview(socket_path: str) -> Overview | None:
    """What there is on the host, as far as anybody says."""
    from wg_exporter.cli import ask

    try:
        return ask.status(socket_path)
    except ask.NotAskedError:
        return None


def _kept(path: str, unasked: str, start: float | None) -> list[Event]:
    """What the last exporter kept. Raises ClickException."""
    from wg_exporter.events.file import LONGEST_FILE, NAME, decode
    from wg_exporter.linux.storage import read_kept
    from wg_exporter.status import words

    try:
        data = read_kept(path, NAME, LONGEST_FILE) if path else None
    except PermissionError:
        raise click.ClickException(words.plain(f"{unasked}; to read what it kept, run: {again()}")) from None
    except OSError as error:
        why = f"there are no events in {path}: {error.strerror or error}"
        raise click.ClickException(words.plain(f"{unasked}, and {why}")) from None
    if data is None:
        raise click.ClickException(words.plain(f"{unasked}, and there are no events in {path or 'any directory'}"))
    click.echo(words.plain(f"{unasked}: these are the events that the last one kept"), err=True)
    return [one for one in decode(data).events if start is None or one.time >= start]


def _choice(
    interface: str | None, peer: str | None, netns: str | None, found: list[Event], overview: Overview | None
) -> Choice:
    """Raises ClickException if there is no such thing."""
    from wg_exporter.cli.events.choice import choose
    from wg_exporter.cli.show.overview import NothingSelected, select
    from wg_exporter.status import words

    choice = choose(interface, peer, netns, found, overview)
    if choice is not None:
        return choice
    wanted = words.plain(" ".join(filter(None, (interface, peer))))
    why = f"no event names {wanted}"
    if overview is not None:
        try:
            select(overview, interface, peer)
        except NothingSelected as nothing:
            why = f"{nothing}; and {why}"
    raise click.ClickException(why)


def _following(socket_path: str, number: int, query: dict[str, str]) -> Iterator[Event]:
    """All that comes after this number, also from exporters to come, until somebody ends it."""
    from wg_exporter.cli import ask
    from wg_exporter.status import words

    waiting = False
    while True:
        try:
            for one in ask.follow(socket_path, {**query, "after": str(number)}):
                waiting, number = False, one.number
                yield one
            why = "the exporter has ended"
        except ask.RefusedError as error:
            raise click.ClickException(words.plain(str(error))) from None
        except ask.NotAskedError as error:
            why = str(error)
        if not waiting:
            waiting = True
            click.echo(words.plain(f"{why}; waiting for the next one"), err=True)
        time.sleep(AGAIN)


class _Printer:
    """Prints events as they were asked for."""

    def __init__(self, shown: list[Event], *, as_json: bool) -> None:
        from wg_exporter.cli.events.screen import Widths

        self._shown = shown
        self._json = as_json
        self._encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        self._widths = Widths.of(shown, self._encoding)

    def begin(self, *, follow: bool, since: str | None) -> None:
        """All that there is."""
        from wg_exporter.cli.events.screen import head

        if not self._json and (self._shown or follow):
            click.echo(head(self._widths))
        elif not self._json:
            click.echo(f"nothing happened since {since}" if since else "nothing happened yet")
        for one in self._shown:
            self.show(one)

    def show(self, one: Event) -> None:
        """One of them."""
        from wg_exporter.cli.events.screen import line
        from wg_exporter.events.told import lines

        click.echo(
            lines([one]).decode("ascii") if self._json else line(one, self._widths, self._encoding), nl=not self._json
        )
        sys.stdout.flush()
