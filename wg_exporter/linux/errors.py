"""What a source raises when it fails as a whole. Its type says what can be done; its message is for people."""

from wg_exporter.model import Failure


class SourceError(Exception):
    """A source could not be read; the message is one line that says why and what to do."""

    failure = Failure.OTHER


class DeniedError(SourceError):
    """The exporter lacks a permission; the message says which."""

    failure = Failure.DENIED


class NamespaceDeniedError(DeniedError):
    """There is no permission to enter the network namespace."""


class NamespaceGoneError(SourceError):
    """The network namespace does not exist, so that nothing is in it: this is known, not a failure to look."""

    failure = Failure.NAMESPACE_GONE
