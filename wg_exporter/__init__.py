"""Prometheus exporter and health monitor for WireGuard tunnels."""

__version__ = "0.1.0"
