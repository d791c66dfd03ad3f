"""Facts about the web configuration: what it says, and whether its certificate and key can be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from wg_exporter.cli.check.facts import CertificateFact, WebFacts
from wg_exporter.cli.check.look.files import file_fact
from wg_exporter.config import ConfigError, place, read
from wg_exporter.config.web import WITHOUT, ClientAuth, WebConfigError, parse_web
from wg_exporter.web.tls import TlsError, context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wg_exporter.config.web import TlsServer

MOST_BYTES = 1 << 20  # of a certificate


def web_facts(path: Path, *, host: bool) -> WebFacts:
    """What the file says. Without `host`, files that it names and that are not here are none of our business."""
    file = file_fact(path)
    try:
        config = parse_web(read(path, WITHOUT), place(path))
    except (ConfigError, WebConfigError) as error:
        return WebFacts(file, error.problems)
    costs = tuple((user, int(found.split("$")[2])) for user, found in config.basic_auth_users.items())
    server = config.tls_server_config
    if server is None:
        return WebFacts(file, costs=costs, asks=bool(costs))
    known = server.client_auth_type is ClientAuth.REQUIRE_AND_VERIFY
    facts = WebFacts(file, costs=costs, asks=bool(costs) or known, tls=True)
    return _with_files(facts, server, config.files(str(path.absolute().parent)), host=host)


def _with_files(facts: WebFacts, server: TlsServer, files: Mapping[str, str], *, host: bool) -> WebFacts:
    absent = [path for path in files.values() if not os.path.exists(path)]  # noqa: PTH110 - text from a file
    if absent and not host:
        return facts._replace(tls_unseen=f"{absent[0]} is not here; --host would ask for it")
    key = file_fact(files["key"]) if "key" in files else facts.file
    facts = facts._replace(key=key)
    try:
        context(server, files)
    except TlsError as error:
        denied = [path for path in files.values() if not absent and not os.access(path, os.R_OK)]
        if denied:
            return facts._replace(tls_unseen=f"{denied[0]}: permission denied; run this check as root")
        return facts._replace(tls_problem=str(error))
    return facts._replace(certificate=_certificate(server.cert, files.get("cert"), facts.file.path))


def _certificate(text: str | None, path: str | None, config: str) -> CertificateFact | None:
    """The first certificate, which is the server's own."""
    try:
        data = text.encode() if text else Path(path or "").read_bytes()[:MOST_BYTES]
        found = x509.load_pem_x509_certificate(data)
    except (OSError, ValueError):
        return None  # OpenSSL has taken it, so there is one
    valid = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    return CertificateFact(path or config, *valid)
