"""The file of `--web.config.file`: who may ask over TCP, and how it is encrypted.

Keys and meanings are those that all Prometheus exporters share (docs/web-configuration.md of
prometheus/exporter-toolkit). No message about it quotes a hash, a key or a certificate.
"""

from __future__ import annotations

import os.path
import re
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from wg_exporter.config.fields import seconds
from wg_exporter.config.tree import Document, Problem, join


def _text(description: str) -> Meta:
    return Meta(description=description)


WITHOUT: Final = "; without this file there is no TLS and no password"
"""After "correct the path": what it would mean to leave the file out."""


class ClientAuth(StrEnum):
    """What is asked of a client's certificate."""

    NONE = "NoClientCert"
    REQUEST = "RequestClientCert"
    REQUIRE_ANY = "RequireAnyClientCert"
    VERIFY_IF_GIVEN = "VerifyClientCertIfGiven"
    REQUIRE_AND_VERIFY = "RequireAndVerifyClientCert"


class TlsVersion(StrEnum):
    """Versions of TLS, by the names of Go."""

    TLS10 = "TLS10"
    TLS11 = "TLS11"
    TLS12 = "TLS12"
    TLS13 = "TLS13"


class TlsServer(Struct, frozen=True, forbid_unknown_fields=True):
    """How connections are encrypted. Paths are relative to the file."""

    cert_file: Annotated[str | None, _text("Certificate and those that signed it, PEM.")] = None
    key_file: Annotated[str | None, _text("Its private key, PEM.")] = None
    cert: Annotated[str | None, _text("The certificate itself, in place of `cert_file`.")] = None
    key: Annotated[str | None, _text("The private key itself, in place of `key_file`.")] = None
    client_auth_type: Annotated[ClientAuth, _text("Whether a client needs a certificate.")] = ClientAuth.NONE
    client_ca_file: Annotated[str | None, _text("The certificates that sign those of clients, PEM.")] = None
    client_ca: Annotated[str | None, _text("These certificates themselves, in place of `client_ca_file`.")] = None
    client_allowed_sans: Annotated[
        tuple[str, ...],
        _text("Names of which a client's certificate needs one: DNS name, IP address, e-mail address or URI."),
    ] = ()
    min_version: Annotated[TlsVersion, _text("The oldest version that is spoken.")] = TlsVersion.TLS12
    max_version: Annotated[TlsVersion, _text("The newest version that is spoken.")] = TlsVersion.TLS13
    cipher_suites: Annotated[tuple[str, ...], _text("Cipher suites for TLS 1.2 and older, by their IANA names.")] = ()
    curve_preferences: Annotated[tuple[str, ...], _text("Curves for the key exchange; only the first is used.")] = ()
    prefer_server_cipher_suites: Annotated[bool, _text("Read, and always so.")] = True


class HttpServer(Struct, frozen=True, forbid_unknown_fields=True):
    """Of HTTP itself."""

    http2: Annotated[bool, _text("Read, and without effect: only HTTP/1.1 is spoken.")] = True
    headers: Annotated[dict[str, str], _text("Headers to add to each response.")] = {}


class RateLimit(Struct, frozen=True, forbid_unknown_fields=True):
    """How many requests are answered; more get 429."""

    interval: Annotated[str, _text("Time in which one more request may come; `0s` = no limit.")] = "1s"
    burst: Annotated[int, Meta(description="Requests that may come at once.", ge=1, le=1_000_000)] = 20

    @property
    def seconds(self) -> float:
        """The interval in seconds."""
        return seconds(self.interval) or 0.0


class WebConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    tls_server_config: Annotated[TlsServer | None, _text("TLS. Without it, nothing is encrypted.")] = None
    http_server_config: Annotated[HttpServer, _text("HTTP.")] = HttpServer()
    basic_auth_users: Annotated[
        dict[str, str], _text("Passwords as bcrypt hashes, by user name. With any, each request over TCP needs one.")
    ] = {}
    rate_limit: Annotated[RateLimit | None, _text("A limit for all requests over TCP together.")] = None

    def files(self, directory: str) -> dict[str, str]:
        """The files that it names, as absolute paths; relative ones begin in `directory`."""
        tls = self.tls_server_config
        if tls is None:
            return {}
        named = {"cert": tls.cert_file, "key": tls.key_file, "client_ca": tls.client_ca_file}
        return {name: os.path.join(directory, path) for name, path in named.items() if path}  # noqa: PTH118 - no I/O


# A bcrypt hash: version, cost, 22 characters of salt, 31 of hash. A cost of 31 takes a day.
_BCRYPT: Final = re.compile(r"\$2[abxy]?\$(0[4-9]|1[0-9])\$[./A-Za-z0-9]{53}")
HEADERS: Final = (
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
    "Content-Security-Policy",
)

# IANA's names of the cipher suites that Go has for TLS 1.2 and older, and OpenSSL's (openssl-ciphers(1)).
CIPHERS: Final = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
TLS13_CIPHERS: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
CURVES: Final = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}


class WebConfigError(Exception):
    """A web configuration that can't be used: everything that is wrong with it, one line each."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def parse_web(text: str, where: str) -> WebConfig:
    """The web configuration that a YAML text describes. Raises WebConfigError with all problems."""
    document = Document(where)
    found = document.read(text, WebConfig)
    _check(document)
    if document.problems or not isinstance(found, WebConfig):
        raise WebConfigError(document.problems)
    return found


def _check(document: Document) -> None:
    """Look at all parts that could be read, whatever is wrong with others."""
    at = "tls_server_config"
    tls = document.values.get(at)
    if isinstance(tls, TlsServer):
        _check_tls(document, tls)
    else:
        read = {name: f"{at}.{name}" for name in TlsServer.__struct_fields__ if f"{at}.{name}" in document.values}
        part = TlsServer(**{name: document.values[path] for name, path in read.items()})  # type: ignore[arg-type]
        _check_values(document, part, at)
    for name in _words(document, "http_server_config.headers"):
        if name not in HEADERS:
            known = ", ".join(HEADERS)
            path = join("http_server_config.headers", name)
            document.wrong(path, "is not a header that can be set", f"use {known}")
    for name, value in _words(document, "basic_auth_users").items():
        path = join("basic_auth_users", name)
        if not name or ":" in name:
            document.wrong(path, "can't be a user name", "it must not be empty, and has no colon")
        elif not _BCRYPT.fullmatch(value):
            fix = "make one with: htpasswd -nBC 10 USER (of the package apache2-utils), and put here what follows USER:"
            document.wrong(path, "is not a bcrypt hash with a cost from 4 to 19", fix)
    interval = document.values.get("rate_limit.interval")
    if isinstance(interval, str) and seconds(interval) is None:
        document.wrong("rate_limit.interval", "is not a duration", "write it like 1s or 500ms")


def _words(document: Document, path: str) -> dict[str, str]:
    found = document.values.get(path)
    return found if isinstance(found, dict) else {}


def _check_tls(document: Document, tls: TlsServer) -> None:
    at = "tls_server_config"
    for file, inline in (("cert_file", "cert"), ("key_file", "key")):
        if not getattr(tls, file) and not getattr(tls, inline):
            document.wrong(at, f"{file} is missing", f"add {file}: or {inline}:")
    _check_clients(document, tls, at)
    _check_values(document, tls, at)


def _check_values(document: Document, tls: TlsServer, at: str) -> None:
    """What is wrong whatever else is given."""
    for file, inline in (("cert_file", "cert"), ("key_file", "key"), ("client_ca_file", "client_ca")):
        if getattr(tls, file) and getattr(tls, inline):
            document.wrong(f"{at}.{inline}", f"is given, and {file} too", "keep one of them")
    if tls.min_version > tls.max_version:
        document.wrong(f"{at}.min_version", "is newer than max_version", "exchange them")
    for number, name in enumerate(tls.cipher_suites):
        if name not in CIPHERS and name not in TLS13_CIPHERS:
            document.wrong(f"{at}.cipher_suites[{number}]", "is not a cipher suite", f"use of {', '.join(CIPHERS)}")
    if tls.client_auth_type is ClientAuth.REQUIRE_ANY:
        fix = f"use {ClientAuth.REQUIRE_AND_VERIFY}, with client_ca_file"
        document.wrong(f"{at}.client_auth_type", "can't be had: a certificate that nobody verifies proves nothing", fix)
    for number, name in enumerate(tls.curve_preferences):
        if name not in CURVES:
            document.wrong(f"{at}.curve_preferences[{number}]", "is not a curve", f"use one of {', '.join(CURVES)}")


def _check_clients(document: Document, tls: TlsServer, at: str) -> None:
    verifies = tls.client_auth_type in {ClientAuth.VERIFY_IF_GIVEN, ClientAuth.REQUIRE_AND_VERIFY}
    signers = tls.client_ca_file or tls.client_ca
    if verifies and not signers:
        document.wrong(f"{at}.client_auth_type", "needs client_ca_file", "add the certificates that sign clients'")
    if signers and not verifies:
        fix = f"set client_auth_type: {ClientAuth.REQUIRE_AND_VERIFY}"
        document.wrong(at, "client_ca_file is given, and no certificate of a client is verified", fix)
    if tls.client_allowed_sans and tls.client_auth_type is not ClientAuth.REQUIRE_AND_VERIFY:
        fix = f"set client_auth_type: {ClientAuth.REQUIRE_AND_VERIFY}"
        document.wrong(f"{at}.client_allowed_sans", "needs a verified certificate of each client", fix)
