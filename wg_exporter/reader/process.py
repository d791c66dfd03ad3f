"""The reader as a process of its own: it answers what the exporter asks, and nothing else.

It ends when the exporter closes the socket, and by nothing else.
"""

from __future__ import annotations

import contextlib
import gc
import select
from typing import TYPE_CHECKING

from wg_exporter.linux.scarcity import give_back
from wg_exporter.linux.usage import Meter
from wg_exporter.messages.channel import Connection, ConnectionEndedError
from wg_exporter.messages.reader import Ask, Inspect, Inspections, Read, ToReader, Unwell
from wg_exporter.messages.snapshots import Packer
from wg_exporter.model import Usage

if TYPE_CHECKING:
    import socket

    from wg_exporter.sources import Sources

STEADY = 10  # passes, after which all objects that last are there


def run(sock: socket.socket, sources: Sources) -> None:
    """Answer until the other end is closed, or says what is no message; then let go of the sources."""
    connection: Connection[ToReader] = Connection(sock, ToReader)  # type: ignore[arg-type]
    try:
        with contextlib.suppress(ConnectionEndedError):
            _answer(connection, sources)
    finally:
        sources.stop()
        connection.close()


def _answer(connection: Connection[ToReader], sources: Sources) -> None:
    packer, meter, passes = Packer(), Meter(), 0
    poll = select.poll()
    while True:
        poll.register(connection, select.POLLIN | (0 if connection.idle else select.POLLOUT))
        if not connection.pending():
            poll.poll()
        connection.flush()
        if not connection.idle:  # one answer at a time
            continue
        message = connection.receive()
        if isinstance(message, Read):
            snapshot = sources.read()
            if inspected := sources.inspected():
                connection.send(Inspections(inspected))
            usage = Usage(*map(sum, zip(meter.read(), sources.usage or Usage(), strict=True)))
            connection.send(packer.pack(snapshot, usage))
            passes += 1
            if passes == STEADY:
                give_back()
                gc.freeze()  # rows of peers form no cycles
        elif isinstance(message, Ask):
            sources.ask(message.questions)
        elif isinstance(message, Inspect):
            sources.inspect(message.keys)
        elif isinstance(message, Unwell):
            sources.unwell(message.peers)
