"""`wg-exporter quiet`: a peer or an interface pages nobody for a while, because somebody works on it.

The exporter that runs here does it; this command chooses whom, as `show` does, and says what became of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wg_exporter.cli.common import UsageProblem, again, output, socket_option

if TYPE_CHECKING:
    from wg_exporter.model import PeerKey
    from wg_exporter.quiet import Quiet
    from wg_exporter.quiet.asked import Answer
    from wg_exporter.status.rows import Overview

# ruff: noqa: PLC0415 - imported where they are used: `--help` answers at once, the daemon stays small

# What `show` only shows is silenced here: a slip of a single letter must not find a key that begins with it.
_SHORTEST_KEY = 4
_START = "start it (systemctl start wg-exporter), or silence the alerts in Alertmanager (amtool silence add)"


@click.command(short_help="Page nobody for a peer or an interface while you work on it.")
@click.argument("interface", required=False)
@click.argument("peer", required=False)
@click.option("--for", "length", metavar="DURATION", help="For how long, such as 30m, 2h or 1d; 30d at most.")
@click.option("--reason", metavar="TEXT", help="Why, for whoever looks meanwhile: one line, 200 characters at most.")
@click.option("--end", is_flag=True, help="End it now.")
@click.option("--netns", metavar="NAME", help="Only in this network namespace, as the configuration names it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@socket_option
def quiet(  # noqa: PLR0917 - click passes them by name
    interface: str | None,
    peer: str | None,
    length: str | None,
    reason: str | None,
    end: bool,  # noqa: FBT001 - a flag of the command line
    netns: str | None,
    as_json: bool,  # noqa: FBT001
    socket_path: str,
) -> None:
    """Page nobody for one PEER (its name, its key or the start of its key, 4 characters at least) or for one INTERFACE
    with all of its peers, while you work on it. A single word is an interface or, if there is none of that name, a peer
    whose name or key is unique. Without arguments, list what is quiet.

    Its state stays true everywhere; only the alerts leave it alone, at the other end of the tunnel too, if the same
    Prometheus scrapes an exporter there. It ends by itself and survives a restart of the exporter.

    The exit code is 1 if no exporter runs here, or nothing matches.
    """
    seconds = _checked(interface, length, reason, end=end)

    from wg_exporter.cli import ask
    from wg_exporter.status import words
    from wg_exporter.status.document import quiet_to_json

    try:
        overview = ask.status(socket_path)
        if interface is None:
            with output():
                click.echo(quiet_to_json(overview) if as_json else _listed(overview))
            return
        if end:
            answer = ask.end_quiet(socket_path, _quiet_one(overview, interface, peer, netns))
        else:
            answer = ask.quiet(socket_path, _one(overview, interface, peer, netns), seconds, reason or "")
    except ask.NotPermittedError as error:
        raise click.ClickException(words.plain(f"{error}; run: {again()}")) from None
    except ask.NotAskedError as error:
        raise click.ClickException(words.plain(f"{error}; {_START}")) from None
    except ask.RefusedError as error:
        raise click.ClickException(words.plain(str(error))) from None
    with output():
        click.echo(_json(answer) if as_json else _done(answer, overview, end=end))
    if answer.problem and not end:
        click.echo(words.plain(f"It will not survive a restart of the exporter: {answer.problem}"), err=True)


def _checked(interface: str | None, length: str | None, reason: str | None, *, end: bool) -> float:
    """The seconds that were asked for; 0 if none were needed. Raises UsageProblem."""
    from wg_exporter.config.fields import duration
    from wg_exporter.config.fields import seconds as parsed
    from wg_exporter.quiet import LONGEST, LONGEST_REASON, SHORTEST

    if interface is None:
        if length is not None or reason is not None or end:
            raise UsageProblem("name a peer or an interface: wg-exporter quiet [INTERFACE] PEER --for 2h")
        return 0.0
    if end:
        if length is not None or reason is not None:
            raise UsageProblem("--end takes no --for and no --reason")
        return 0.0
    if length is None:
        raise UsageProblem("say for how long: --for 2h, or --end to end it")
    found = parsed(length)
    if found is None:
        raise UsageProblem("--for: not a duration; write it like 30m, 2h or 1d")
    if not SHORTEST <= found <= LONGEST:
        raise UsageProblem(f"--for: from {duration(SHORTEST)} to {duration(LONGEST)}")
    if reason is not None and (len(reason) > LONGEST_REASON or not reason.isprintable()):
        raise UsageProblem(f"--reason: one line of {LONGEST_REASON} characters at most")
    return found


def _one(overview: Overview, interface: str, peer: str | None, netns: str | None) -> PeerKey:
    """The peer or, with an empty key, the interface that is meant. Raises ClickException."""
    from wg_exporter.cli.show.overview import NothingSelected, select
    from wg_exporter.status import words
    from wg_exporter.status.rows import whose

    if netns is not None:
        devices = tuple(row for row in overview.devices if whose(row)[0] == netns)
        if not devices:
            raise click.ClickException(f"no WireGuard interface in a namespace {words.plain(netns)}")
        overview = overview._replace(devices=devices)
    whole = peer is None and any(whose(row)[1] == interface for row in overview.devices)
    try:
        found = select(overview, interface, peer, shortest_key=_SHORTEST_KEY)
    except NothingSelected as nothing:
        raise click.ClickException(str(nothing)) from None
    if whole:
        keys = [(*whose(row), "") for row in found.devices]
    else:
        keys = [(*whose(row), one.peer.public_key) for row in found.devices for one in row.peers]
    return _only(keys, peer or interface)


def _quiet_one(overview: Overview, interface: str, peer: str | None, netns: str | None) -> PeerKey:
    """The quiet that is meant; what it was begun for may not be there any more. Raises ClickException."""
    from wg_exporter.status import words

    known = [one for one in overview.quiet.all if netns in (None, one.netns)]
    named = [one for one in known if interface == one.interface]
    if peer is None:
        found = [one for one in named if not one.public_key]
        found = found or _matching(overview, known, interface)
    else:
        found = _matching(overview, named, peer)
    if not found and (whole := _whole(overview, interface, peer, netns)):
        name = whole.interface + (f" --netns={whole.netns}" if whole.netns else "")
        what = f"is quiet with {_whom(overview, whole)}; end that: wg-exporter quiet {name} --end"
        raise click.ClickException(words.plain(f"{peer or interface} {what}"))
    if not found:
        there = words.first_of(_whom(overview, one) for one in known) or "nothing"
        raise click.ClickException(f"{words.plain(peer or interface)} is not quiet; what is: {there}")
    return _only([one.key for one in found], peer or interface)


def _whole(overview: Overview, interface: str, peer: str | None, netns: str | None) -> Quiet | None:
    """The quiet of a whole interface that holds for the peer that is meant, if it is the only one of its name."""
    try:
        netns_found, device, key = _one(overview, interface, peer, netns)
    except click.ClickException:
        return None
    return overview.quiet.interface((netns_found, device)) if key else None


def _matching(overview: Overview, known: list[Quiet], wanted: str) -> list[Quiet]:
    """Those of peers by the whole name, of now or then, or the key; else by its start."""
    peers = [one for one in known if one.public_key]
    exact = [one for one in peers if wanted in (one.public_key, one.name, _name(overview, one))]
    long_enough = len(wanted) >= _SHORTEST_KEY
    return exact or [one for one in peers if long_enough and one.public_key.startswith(wanted)]


def _only(keys: list[PeerKey], wanted: str) -> PeerKey:
    from wg_exporter.status import words

    if len(keys) > 1:
        places = words.first_of(
            " ".join(filter(None, (name, key, netns and f"--netns={netns}"))) for netns, name, key in keys
        )
        raise click.ClickException(f"several are called {words.plain(wanted)}; say which: {places}")
    return keys[0]


def _name(overview: Overview, quiet: Quiet) -> str:
    """What a peer is called now or, if it is gone, was called then."""
    from wg_exporter.status.rows import whose

    rows = (one for row in overview.devices if whose(row) == quiet.device for one in row.peers)
    return next((one.name for one in rows if one.peer.public_key == quiet.public_key), quiet.name)


def _whom(overview: Overview, quiet: Quiet) -> str:
    where = f"{quiet.interface} in {quiet.netns}" if quiet.netns else quiet.interface
    return f"{_name(overview, quiet)} on {where}" if quiet.public_key else f"all of {where}"


def _listed(overview: Overview) -> str:
    from wg_exporter.status import words

    lines = []
    for one in overview.quiet.all:
        begun = words.ago(int(overview.wall - one.since))
        why = f": {one.reason}" if one.reason else ""
        line = f"{_whom(overview, one)} is quiet until {words.until(one.until, overview.wall)}, begun {begun}{why}"
        lines.append(words.plain(line))
    return "\n".join(lines) or "nothing is quiet"


def _done(answer: Answer, overview: Overview, *, end: bool) -> str:
    from wg_exporter.status import words

    where = f"{answer.interface} in {answer.netns}" if answer.netns else answer.interface
    whom = f"{answer.name or (answer.public_key or '')[:8]} on {where}" if answer.public_key else f"All of {where}"
    if end:
        return words.plain(_ended(answer, whom, overview))
    return words.plain(f"{whom} is quiet until {words.until(answer.until, max(overview.wall, answer.since))}.")


def _ended(answer: Answer, whom: str, overview: Overview) -> str:
    """Who pages again, and who does not yet: a peer and its interface are quiet each by itself."""
    from wg_exporter.status import words

    device, wall = (answer.netns, answer.interface), overview.wall
    whole = overview.quiet.interface(device)
    if answer.public_key and whole:
        stays = f"it stays quiet with {_whom(overview, whole)} until {words.until(whole.until, wall)}"
        return f"{whom}: its own quiet has ended; {stays}."
    named = [one for one in overview.quiet.all if one.device == device and one.public_key and not answer.public_key]
    if named:
        who = words.first_of(f"{_name(overview, one)} until {words.until(one.until, wall)}" for one in named)
        return f"{whom} pages again, but for what is quiet by itself: {who}."
    return f"{whom} pages again."


def _json(answer: Answer) -> str:
    import json

    import msgspec

    return json.dumps(msgspec.to_builtins(answer), indent=2)
