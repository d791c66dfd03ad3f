"""`wg-exporter up`: whether a peer is up by its fast echoes, as an exit code for scripts.

The exporter that runs here says it. Whatever keeps it from saying so, also a fault in here, must not look like "down":
1 is the exit code of that alone.
"""

from __future__ import annotations

import re
import sys

import click

from wg_exporter.cli.common import START_IT, again, drop_output, socket_option

# ruff: noqa: PLC0415 - imported where they are used: `--help` answers at once, the daemon stays small

_KEY = re.compile("[A-Za-z0-9+/]{43}=")
_SHORTEST_KEY = 4


class CantTellError(click.ClickException):
    """It is not known. The message is one line that says why."""

    exit_code = 2


@click.command(short_help="Say by its exit code whether a peer answers fast echoes.")
@click.argument("interface")
@click.argument("peer")
@click.option("--netns", metavar="NAME", help="In this network namespace, as the configuration names it.")
@socket_option
def up(interface: str, peer: str, netns: str | None, socket_path: str) -> None:
    """Say whether PEER on INTERFACE is up by its fast echoes (`fast` in the configuration).

    PEER is its key, its name or the start of its key. Scripts give the whole key: it alone is answered within
    milliseconds, however many peers there are, and it alone is known to be down while the interface or peer is gone.

    The exit code is 0 if it is up, 1 if it is down, and 2 if that can't be told: no exporter runs here, the peer has no
    fast echoes, or nothing is known yet. Whoever takes every failure for an outage takes 2 for one.
    """
    try:
        state, line = _ask(interface, peer, netns or "", socket_path)
    except click.ClickException as error:
        raise CantTellError(error.message) from None
    except Exception as error:  # noqa: BLE001 - Python would end with 1, which means down
        raise CantTellError(f"unexpected {type(error).__name__}: {error}") from None
    if state is None:
        raise CantTellError(line)
    try:
        click.echo(line)
    except OSError:  # the exit code is what counts
        drop_output()
    sys.exit(0 if state else 1)


def _ask(interface: str, peer: str, netns: str, socket_path: str) -> tuple[bool | None, str]:
    """How it is, None = not known, in a line. Raises ClickException."""
    from wg_exporter.cli import ask
    from wg_exporter.status import words

    try:
        key = (netns, interface, peer) if _KEY.fullmatch(peer) else _named(interface, peer, netns, socket_path)
        return ask.up(socket_path, key)
    except ask.NotPermittedError as error:
        raise CantTellError(words.plain(f"{error}; run: {again()}")) from None
    except ask.NobodyThereError as error:
        raise CantTellError(words.plain(f"{error}; {START_IT}")) from None
    except (ask.NotAskedError, ask.RefusedError) as error:
        raise CantTellError(words.plain(str(error))) from None


def _named(interface: str, peer: str, netns: str, socket_path: str) -> tuple[str, str, str]:
    """The one peer of this name, or whose key begins so."""
    from wg_exporter.cli import ask
    from wg_exporter.cli.show.overview import NothingSelected, select
    from wg_exporter.status import words
    from wg_exporter.status.rows import whose

    overview = ask.status(socket_path)
    devices = tuple(row for row in overview.devices if whose(row) == (netns, interface))
    if not devices:
        raise CantTellError(
            f"no WireGuard interface {words.plain(interface)} here; if it may be gone, give the whole key of the peer"
        )
    try:
        found = select(overview._replace(devices=devices), interface, peer, shortest_key=_SHORTEST_KEY)
    except NothingSelected as nothing:
        raise CantTellError(f"{nothing}; if the peer may be gone, give its whole key") from None
    keys = [(*whose(row), one.peer.public_key) for row in found.devices for one in row.peers]
    if len(keys) != 1:
        raise CantTellError(f"{len(keys)} peers are called {words.plain(peer)}; give the key of one")
    return keys[0]
