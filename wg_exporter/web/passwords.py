"""Passwords of basic auth, as bcrypt hashes. A wrong password, one that is too long, and a user that nobody knows all
take as long as a right one that was not seen before.

A hash takes a tenth of a second of a core: right passwords are remembered, and one is checked at a time, so that a
stranger with a list of words takes the time of nobody else. Few wait, each address has its turn, and where there is no
room one goes of an address that has more of them there: so it takes more addresses than may wait to keep others out.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import itertools
import os
from collections import Counter, OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 72  # bytes of a password, which is all that bcrypt looks at
REMEMBERED = 100  # right passwords
MOST_WAITING = 32  # requests that wait for a check
MOST_OF_ONE = 8  # of them from one address, or one network of IPv6
CHALLENGE = 'Basic realm="wg-exporter"'


class TooBusyError(Exception):
    """Too many wait for their password to be checked."""


class ReplacedError(Exception):
    """Other users count now: they have to be asked."""


class Passwords:
    """The users of one web configuration. Use it in the event loop alone."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = {name: found.encode() for name, found in users.items()}
        self._nobody = _hash_of_nobody(max(int(found.split("$")[2]) for found in users.values())) if users else b""
        self._key = os.urandom(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._waiting: Counter[str] = Counter()  # by address, also the one that is being checked
        self._turns: dict[str, deque[asyncio.Future[None]]] = {}  # of the others; the address whose turn it is first
        self._checking = False
        self._closed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="passwords")

    def close(self) -> None:
        """End the thread. Who waits for it gets ReplacedError."""
        self._closed = True
        for turn in itertools.chain.from_iterable(self._turns.values()):
            if not turn.done():
                turn.set_exception(ReplacedError())
        self._turns.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def follow(self, before: Passwords) -> None:
        """Know the right passwords that those before knew, if the users are the same."""
        if self._users == before._users:
            self._key, self._right = before._key, before._right

    async def allows(self, authorization: str, address: str = "") -> bool:
        """Whether this header `Authorization` names a user with the right password. `address` is the client's. Raises
        TooBusyError or ReplacedError.
        """
        if not self._users:
            return True
        name, password = _read(authorization)
        if name is None:
            return False
        mark = hmac.new(self._key, f"{name}\0".encode() + password, hashlib.sha256).digest()
        if mark in self._right:
            self._right.move_to_end(mark)
            return True
        turn = self._wait(of := _network(address))
        self._next()
        try:
            await turn
            right = await asyncio.get_running_loop().run_in_executor(self._pool, self._check, name, password)
        except asyncio.CancelledError:
            if self._closed:
                raise ReplacedError from None
            raise
        finally:
            self._waiting[of] -= 1
            if not self._waiting[of]:
                del self._waiting[of]
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._checking = False
                self._next()
        if self._closed:
            raise ReplacedError
        if right:
            self._right[mark] = None
            while len(self._right) > REMEMBERED:
                self._right.popitem(last=False)
        return right

    def _wait(self, of: str) -> asyncio.Future[None]:
        """What is done when it is the turn of one more from this address. Raises TooBusyError."""
        mine = self._waiting[of]
        if mine >= MOST_OF_ONE:
            raise TooBusyError
        if self._waiting.total() >= MOST_WAITING:
            most = max(self._turns, key=lambda one: len(self._turns[one]), default=of)
            if len(self._turns.get(most, ())) <= mine + 1:
                raise TooBusyError
            self._turns[most].pop().set_exception(TooBusyError())
        turn = asyncio.get_running_loop().create_future()
        self._waiting[of] += 1
        self._turns.setdefault(of, deque()).append(turn)
        return turn

    def _next(self) -> None:
        while self._turns and not self._checking:
            of = next(iter(self._turns))
            turns = self._turns.pop(of)
            turn = turns.popleft()
            if turns:
                self._turns[of] = turns  # after all others
            if not turn.done():  # nobody waits for it any more
                self._checking = True
                turn.set_result(None)

    def _check(self, name: str, password: bytes) -> bool:
        import bcrypt  # noqa: PLC0415 - only where there are users

        found = self._users.get(name)
        right = bcrypt.checkpw(password[:LONGEST], found or self._nobody)
        return right and found is not None and len(password) <= LONGEST


def _hash_of_nobody(cost: int) -> bytes:
    """A hash that no password has. `cost` is that of the most expensive hash there is."""
    import bcrypt  # noqa: PLC0415 - only where there are users

    return bcrypt.hashpw(os.urandom(16).hex().encode(), bcrypt.gensalt(cost))


def _network(address: str) -> str:
    """Whose address it is: one of IPv6 can change within its network of 64 bits."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv4Address) or found.ipv4_mapped:
        return address
    return str(ip_network((int(found), 64), strict=False))


def _read(authorization: str) -> tuple[str | None, bytes]:
    """Name and password (RFC 7617); no name if it is none of these."""
    kind, _, text = authorization.partition(" ")
    if kind.lower() != "basic":
        return None, b""
    try:
        name, colon, password = base64.b64decode(text.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon else (None, b"")
    except (binascii.Error, ValueError):
        return None, b""
