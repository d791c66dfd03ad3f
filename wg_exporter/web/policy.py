"""Who may ask over TCP, by the web configuration: TLS, passwords, a limit of requests, and headers of responses.

A policy is made of one configuration and never changes; the server is given another when the files have changed. One
that can't be made answers everybody with 500, and the log says why: to go on as before would keep a certificate or a
password in use that somebody has taken away.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from wg_exporter.config.web import ClientAuth, WebConfig, WebConfigError, parse_web
from wg_exporter.web import tls
from wg_exporter.web.passwords import CHALLENGE, Passwords, TooBusyError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """What a request is answered with instead: a status, a line, and headers."""

    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(line)
        self.status, self.line, self.headers = status, line, dict(headers or {})


class Bucket:
    """A limit of requests: one more every `interval` seconds, and at most `burst` at once."""

    def __init__(self, interval: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval, self._burst, self._clock = interval, float(burst), clock
        self._left, self._at = float(burst), clock()

    def take(self) -> bool:
        """Whether one more may come now."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) / self._interval)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Policy:
    """What one web configuration asks for. `problem` says why there is none, in one line; empty if there is."""

    def __init__(self, config: WebConfig, context: ssl.SSLContext | None = None, problem: str = "") -> None:
        self.config = config
        self.problem = problem
        self.headers = dict(config.http_server_config.headers)
        self.tls = context
        self._passwords = Passwords(config.basic_auth_users)
        limit = config.rate_limit
        self._bucket = Bucket(limit.seconds, limit.burst) if limit is not None and limit.seconds else None

    def follow(self, before: Policy) -> None:
        """Take the place of this one."""
        self._passwords.follow(before._passwords)
        before.close()

    def close(self) -> None:
        """It is not in use any more."""
        self._passwords.close()

    @property
    def asks_who_comes(self) -> bool:
        """Whether a client is told by its certificate, once for a connection."""
        wanted = self.config.tls_server_config
        return wanted is not None and wanted.client_auth_type not in {ClientAuth.NONE, ClientAuth.REQUEST}

    @property
    def open_to_all(self) -> bool:
        """Whether anybody may read all of it on its way, or ask for it."""
        wanted = self.config.tls_server_config
        known = wanted is not None and wanted.client_auth_type is ClientAuth.REQUIRE_AND_VERIFY
        return self.tls is None or not (self.config.basic_auth_users or known)

    def may_come_in(self, certificate: Mapping[str, object] | None) -> bool:
        """Whether a client with this verified certificate may ask."""
        wanted = self.config.tls_server_config
        return wanted is None or tls.may_come_in(certificate, wanted.client_allowed_sans)

    async def admit(self, authorization: str, address: str = "") -> None:
        """Let a request of a client with this address in, or raise Refusal; ReplacedError if another policy took the
        place of this one meanwhile, and has to be asked.
        """
        if self.problem:
            raise Refusal(500, "the web configuration can't be used; the log of wg-exporter says why\n")
        if self._bucket is not None and not self._bucket.take():
            raise Refusal(429, "too many requests; the limit is rate_limit of the web configuration\n")
        try:
            allowed = await self._passwords.allows(authorization, address)
        except TooBusyError:
            raise Refusal(429, "too many passwords wait to be checked\n") from None
        if not allowed:
            raise Refusal(401, "a user and a password are needed\n", {"WWW-Authenticate": CHALLENGE})


OPEN = WebConfig()
"""Without a web configuration."""


def made(text: str, where: str, files: Mapping[str, str]) -> Policy:
    """The policy of a web configuration and its files, by name. Raises WebConfigError, or TlsError."""
    config = parse_web(text, where)
    server = config.tls_server_config
    return Policy(config, None if server is None else tls.context(server, files))


def with_tls_of(before: Policy, text: str, where: str) -> Policy | None:
    """The policy of a web configuration, with the certificate of one before; None where the configuration wants TLS to
    be another than that was. Raises WebConfigError.
    """
    config = parse_web(text, where)
    if before.tls is None or config.tls_server_config != before.config.tls_server_config:
        return None
    return Policy(config, before.tls)


def broken(error: WebConfigError | tls.TlsError, before: Policy) -> Policy:
    """What holds while a configuration can't be used: nobody is answered, over the encryption that there was."""
    return Policy(OPEN, before.tls, " ".join(str(error).split("\n")))
