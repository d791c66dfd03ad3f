"""The policy of the web server, through all changes of the files that it is made of.

A certificate and its key are two files, which whoever renews them writes one after the other. While they are no pair
the pair before stays in use, for a bounded time.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wg_exporter.config.tree import Problem
from wg_exporter.config.web import WebConfigError
from wg_exporter.log import Log
from wg_exporter.web.policy import OPEN, Policy, broken, made, with_tls_of
from wg_exporter.web.tls import PairError, TlsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


PATIENCE = 10.0  # seconds for a certificate and its key to become a pair


class Policies:
    """Makes one policy after the other, and says so. `use` is told of each; it may be called in any thread."""

    def __init__(self, where: str, patience: float = PATIENCE) -> None:
        """`where` is the name of the web configuration, for messages. `patience` is in seconds."""
        self._where = where
        self._patience = patience
        self._log = Log(__name__)
        self._lock = threading.Lock()
        self._waiting: threading.Timer | None = None  # for a pair
        self._lacking: WebConfigError | TlsError | None = None  # while it is waited for
        self._paired = Policy(OPEN)  # the last one that had all its files
        self.now = self._paired
        self.use: Callable[[Policy], object] = lambda _policy: None

    def first(self, text: str, files: Mapping[str, str]) -> None:
        """Begin with these. Raises WebConfigError, for whoever started the exporter is there to read it."""
        try:
            self.now = self._paired = made(text, self._where, files)
        except TlsError as error:
            raise WebConfigError((Problem(self._where, str(error)),)) from None

    def take(self, text: str, files: Mapping[str, str]) -> None:
        """These are the files now. If they can't be used, nobody is answered until they can. Neither is a file that
        became empty: it is one that somebody is about to write, and would let everybody in.
        """
        if not text.strip():
            self.fail((Problem(self._where, "is empty now", "write {} if anybody may ask"),))
            return
        with self._lock:
            try:
                policy = made(text, self._where, files)
            except PairError as error:
                self._wait(text, error)
            except (WebConfigError, TlsError) as error:
                self._refuse(error)
            else:
                self._log.info("web configuration in use", file=self._where)
                self._paired = policy
                self._change(policy)

    def lack(self, text: str, problems: tuple[Problem, ...]) -> None:
        """The configuration is this now, and a file that it names can't be read."""
        with self._lock:
            self._wait(text, WebConfigError(problems))

    def fail(self, problems: tuple[Problem, ...]) -> None:
        """The configuration itself can't be read."""
        with self._lock:
            self._refuse(WebConfigError(problems))

    def _wait(self, text: str, error: WebConfigError | TlsError) -> None:
        """Go on with the certificate before, if there is one and it was not waited for it long enough."""
        try:
            policy = None if self.now.problem else with_tls_of(self._paired, text, self._where)
        except WebConfigError as wrong:
            self._refuse(wrong)
            return
        if policy is None:
            self._refuse(error)
            return
        self._lacking = error
        if self._waiting is None:
            self._log.info("certificate and key are no pair yet, those before stay in use", seconds=self._patience)
            self._waiting = threading.Timer(self._patience, self._end_waiting)
            self._waiting.daemon = True
            self._waiting.start()
        self.now = policy
        self.use(policy)

    def _end_waiting(self) -> None:
        with self._lock:
            if self._lacking is not None:
                self._refuse(self._lacking)

    def _refuse(self, error: WebConfigError | TlsError) -> None:
        for line in str(error).split("\n"):
            problem = line if line.startswith(self._where) else f"{self._where}: {line}"
            self._log.error("web configuration not in use, requests get 500", problem=problem)
        self._change(broken(error, self._paired))

    def _change(self, policy: Policy) -> None:
        """This one is certain: nothing is waited for any more."""
        self._lacking = None
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self.now = policy
        self.use(policy)
