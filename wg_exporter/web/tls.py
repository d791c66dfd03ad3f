"""TLS as the web configuration wants it: one context for all connections, made anew when a file has changed."""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
from ipaddress import ip_address
from typing import TYPE_CHECKING

from wg_exporter.config.web import CIPHERS, CURVES, ClientAuth, TlsVersion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from ipaddress import IPv4Address, IPv6Address

    from wg_exporter.config.web import TlsServer

_VERSIONS = {
    TlsVersion.TLS10: ssl.TLSVersion.TLSv1,
    TlsVersion.TLS11: ssl.TLSVersion.TLSv1_1,
    TlsVersion.TLS12: ssl.TLSVersion.TLSv1_2,
    TlsVersion.TLS13: ssl.TLSVersion.TLSv1_3,
}
_VERIFY = {
    ClientAuth.NONE: ssl.CERT_NONE,
    ClientAuth.REQUEST: ssl.CERT_NONE,
    ClientAuth.VERIFY_IF_GIVEN: ssl.CERT_OPTIONAL,
    ClientAuth.REQUIRE_AND_VERIFY: ssl.CERT_REQUIRED,
}


class TlsError(Exception):
    """The files can't be used: one line that says which, and why. It quotes nothing of them."""


class PairError(TlsError):
    """The certificate and the key are no pair. They may be one in a moment, when somebody has written the other."""


def context(tls: TlsServer, files: Mapping[str, str]) -> ssl.SSLContext:
    """What connections are encrypted with. `files` are paths by name: `cert`, `key`, `client_ca`. Raises TlsError,
    of which PairError is one.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version, made.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
    made.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    made.set_alpn_protocols(["http/1.1"])
    older = [CIPHERS[name] for name in tls.cipher_suites if name in CIPHERS]
    try:
        if older:
            made.set_ciphers(":".join(older))
        if tls.curve_preferences:
            made.set_ecdh_curve(CURVES[tls.curve_preferences[0]])
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"cipher_suites or curve_preferences: not in this OpenSSL ({_reason(error)})") from None
    _load_own(made, tls, files)
    made.verify_mode = _VERIFY[tls.client_auth_type]
    if made.verify_mode is not ssl.CERT_NONE:
        _load_signers(made, tls, files)
    return made


def _load_own(made: ssl.SSLContext, tls: TlsServer, files: Mapping[str, str]) -> None:
    with (
        _as_file(tls.cert, files.get("cert"), PairError) as cert,
        _as_file(tls.key, files.get("key"), PairError) as key,
    ):
        try:
            made.load_cert_chain(cert, key, _no_password)
        except ssl.SSLError as error:
            raise PairError(f"cert_file and key_file: not a certificate and its key ({_reason(error)})") from None
        except OSError as error:
            raise PairError(f"cert_file or key_file: {error.strerror or error}") from None


def _load_signers(made: ssl.SSLContext, tls: TlsServer, files: Mapping[str, str]) -> None:
    with _as_file(tls.client_ca, files.get("client_ca")) as signers:
        try:
            made.load_verify_locations(signers)
        except ssl.SSLError as error:
            raise TlsError(f"client_ca_file: no certificates in PEM ({_reason(error)})") from None
        except OSError as error:
            raise TlsError(f"client_ca_file: {error.strerror or error}") from None


def _no_password() -> str:
    """OpenSSL would ask at the terminal."""
    raise TlsError("key_file: the key has a password, which nobody can give here; store it without one")


@contextlib.contextmanager
def _as_file(text: str | None, path: str | None, wrong: type[TlsError] = TlsError) -> Iterator[str]:
    """A path to this text, or the path itself: OpenSSL's functions read files alone. Raises `wrong`."""
    if text is None:
        try:
            file = os.open(path or "", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:  # OpenSSL would not say which of its files it was
            raise wrong(f"{path}: {error.strerror}") from None
        regular = stat.S_ISREG(os.fstat(file).st_mode)
        os.close(file)
        if not regular:  # OpenSSL would wait for it, or read without end
            raise wrong(f"{path}: not a regular file")
        yield path or ""
        return
    file = os.memfd_create("inline", os.MFD_CLOEXEC)
    try:
        os.write(file, text.encode())
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or "rejected").lower().replace("_", " ")


def may_come_in(certificate: Mapping[str, object] | None, allowed: Sequence[str]) -> bool:
    """Whether a verified certificate (SSLSocket.getpeercert) has one of these names; without names, anyone may."""
    if not allowed:
        return True
    names = (certificate or {}).get("subjectAltName", ())
    assert isinstance(names, tuple)  # noqa: S101 - for the type checker
    texts = {value for kind, value in names if kind in {"DNS", "email", "URI"}}
    addresses = {_address(value) for kind, value in names if kind == "IP Address"} - {None}
    return not texts.isdisjoint(allowed) or not addresses.isdisjoint(map(_address, allowed))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """OpenSSL writes "2001:DB8:0:0:0:0:0:1"."""
    try:
        return ip_address(text.strip())
    except ValueError:
        return None
