"""A test page: one alert to an Alertmanager, with the labels that a page of our rules has, to see it on the phone.

Sent by Alertmanager's API v2 (POST /api/v2/alerts). Then it is asked back, so that a silence, or a route that ends
nowhere, is seen here and not at three in the morning. No message has the password of the URL.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import platform
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "WireGuardTestPage"
LASTS = 300  # seconds
REQUEST_SECONDS = 10.0
ASKED_FOR = 10.0  # seconds in which Alertmanager finds out about routes and silences
LONGEST = 16 << 20  # bytes of an answer


class PagerError(Exception):
    """The page could not be sent, or reaches nobody: one line that says why, and what to do."""


class Sent(NamedTuple):
    """An alert that Alertmanager has taken, with those who are told of it."""

    receivers: tuple[str, ...]
    ends: datetime


class Manager:
    """An Alertmanager, by its URL: `http://localhost:9093`, with a path before the API and a user if it has them."""

    def __init__(self, url: str) -> None:
        """Raises PagerError."""
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError:
            parts = None
        if parts is None or parts.scheme not in {"http", "https"} or not self._host or parts.query or parts.fragment:
            raise PagerError("the URL of the Alertmanager can't be used; write it like http://localhost:9093")
        self._tls = parts.scheme == "https"
        self._path = f"{parts.path.rstrip('/')}/api/v2/alerts"
        host = f"[{self._host}]" if ":" in self._host else self._host
        port = f":{self._port}" if self._port else ""
        self.name = f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"
        self._headers = {"Content-Type": "application/json"}
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(secret).decode()}"

    def send(self, alert: object) -> None:
        """Hand over an alert. Raises PagerError."""
        self._ask("POST", self._path, json.dumps([alert]).encode())

    def find(self, filter: str) -> Any:  # noqa: A002 - the API's word
        """The alerts that match. Raises PagerError."""
        body = self._ask("GET", f"{self._path}?filter={quote(filter)}", None)
        try:
            return json.loads(body)
        except ValueError:
            raise PagerError(f"{self.name} is no Alertmanager: its answer is not JSON") from None

    def _ask(self, method: str, target: str, body: bytes | None) -> bytes:
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        try:
            connection = kind(self._host, self._port, timeout=REQUEST_SECONDS)
            with contextlib.closing(connection):
                connection.request(method, target, body, self._headers)
                answer = connection.getresponse()
                data = answer.read(LONGEST)
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise PagerError(f"{self.name} does not answer: {why}; is this the URL of the Alertmanager?") from None
        if answer.status != 200:
            raise PagerError(f"{self.name} refuses the alert: {answer.status} {_line(data)}".rstrip())
        return data


def page(url: str, clock: Callable[[], float] = time.monotonic) -> Sent:
    """Send a test page, and find out who gets it. Raises PagerError."""
    manager, host = Manager(url), platform.node() or "unknown"
    begins = datetime.now(UTC)
    ends = begins + timedelta(seconds=LASTS)
    labels = {
        "alertname": NAME,
        "severity": "critical",
        "job": "wireguard",
        "instance": host,
        "interface": "test",
        "peer": "test",
    }
    manager.send(
        {
            "labels": labels,
            "annotations": {
                "summary": "A test of the pager.",
                "description": f"A test of the pager, sent by wg-exporter check on {host}. Nothing is wrong.",
            },
            "startsAt": begins.isoformat(),
            "endsAt": ends.isoformat(),
        }
    )
    until = clock() + ASKED_FOR
    while True:
        found = _ours(manager.find(f'alertname="{NAME}"'), labels)
        state = found.get("status", {}) if found else {}
        if state.get("silencedBy"):
            raise PagerError(f"a silence in {manager.name} keeps the page back; end it, or wait, and try again")
        if state.get("inhibitedBy") or state.get("mutedBy"):
            raise PagerError(f"another alert or a time interval in {manager.name} keeps the page back")
        if found and state.get("state") == "active":
            return Sent(tuple(str(one.get("name")) for one in found.get("receivers", ())), ends)
        if clock() > until:
            raise PagerError(f"{manager.name} took the page, and does not show it after {ASKED_FOR:.0f} s; see its log")
        time.sleep(0.2)


def _ours(alerts: object, labels: dict[str, str]) -> dict[str, Any]:
    for alert in alerts if isinstance(alerts, list) else ():
        if isinstance(alert, dict) and alert.get("labels") == labels:
            return alert
    return {}


def _line(data: bytes) -> str:
    line = data[:200].decode("utf-8", "replace").strip().partition("\n")[0]
    return "".join(c if c.isprintable() else "?" for c in line)
