"""The policy of the web server, through all changes of the files that it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.config.tree import Problem
from wg_exporter.config.web import WebConfigError
from wg_exporter.log import Log
from wg_exporter.web.policy import OPEN, Policy, broken, made
from wg_exporter.web.tls import TlsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Policies:
    """Makes one policy after the other, and says so. `use` is told of each; it may be called in any thread."""

    def __init__(self, where: str) -> None:
        """`where` is the name of the web configuration, for messages."""
        self._where = where
        self._log = Log(__name__)
        self.now = Policy(OPEN)
        self.use: Callable[[Policy], object] = lambda _policy: None

    def first(self, text: str, files: Mapping[str, str]) -> None:
        """Begin with these. Raises WebConfigError, for whoever started the exporter is there to read it."""
        try:
            self.now = made(text, self._where, files)
        except TlsError as error:
            raise WebConfigError((Problem(self._where, str(error)),)) from None

    def take(self, text: str, files: Mapping[str, str]) -> None:
        """These are the files now. If they can't be used, nobody is answered until they can."""
        try:
            policy = made(text, self._where, files)
        except (WebConfigError, TlsError) as error:
            self._refuse(error)
        else:
            self._log.info("web configuration in use", file=self._where)
            self._change(policy)

    def fail(self, problems: tuple[Problem, ...]) -> None:
        """They can't be read."""
        self._refuse(WebConfigError(problems))

    def _refuse(self, error: WebConfigError | TlsError) -> None:
        for line in str(error).split("\n"):
            problem = line if line.startswith(self._where) else f"{self._where}: {line}"
            self._log.error("web configuration not in use, requests get 500", problem=problem)
        self._change(broken(error, self.now))

    def _change(self, policy: Policy) -> None:
        self.now = policy
        self.use(policy)
