"""Gathers the facts: the only part of `check` that opens anything. It changes nothing, on the host or on a device."""
