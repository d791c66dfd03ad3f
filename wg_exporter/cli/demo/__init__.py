"""`wg-exporter demo`: a WireGuard network to look at, its outages, and Prometheus and Alertmanager beside it."""
