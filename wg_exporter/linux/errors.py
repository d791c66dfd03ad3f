"""The one error that every source raises when it fails as a whole."""


class SourceError(Exception):
    """A source could not be read; the message is one line that says why and what to do."""


class NamespaceDeniedError(SourceError):
    """There is no permission to enter the network namespace."""


class NamespaceGoneError(SourceError):
    """The network namespace does not exist, so that nothing is in it: this is known, not a failure to look."""
