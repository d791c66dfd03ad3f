"""Packets and the sockets that carry them: building, sending, receiving, matching; routes and namespaces."""
