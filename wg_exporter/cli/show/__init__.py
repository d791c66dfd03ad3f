"""`wg-exporter show`: what `/metrics` says, for a person or as JSON for a script."""
