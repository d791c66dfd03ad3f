"""`wg-exporter events`: what happened on this host."""
