"""What the reader and the resolver's process say to each other: the name of a host, and what it resolves to.

The resolver reads what strangers send (DNS), so the reader takes no text of it: addresses, which it parses, or a word
of a closed set. One message is one packet (see `packets`).
"""

from __future__ import annotations

from wg_exporter.hostnames import LookupFailure  # noqa: TC001 - msgspec reads the annotations
from wg_exporter.messages.channel import Message
from wg_exporter.model import Usage

MOST_AT_ONCE = 4
"""Questions that wait for an answer: names that hang must not hold up the others, and a host is no flood of queries."""


class Question(Message):
    """Resolve this. `port` is a number or the name of a service. `number` is for the answer, and each has another."""

    number: int
    host: str
    port: str


class Answer(Message):
    """What the question of this number came to: (address, port) in the order of getaddrinfo(3), or why there is none.

    `usage` is what the process has cost.
    """

    number: int
    addresses: tuple[tuple[str, int], ...]
    failure: LookupFailure | None = None
    usage: Usage = Usage()


ToResolver = Question
FromResolver = Answer
