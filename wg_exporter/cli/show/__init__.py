"""`wg-exporter show`: the same data for a person, or as JSON for a script."""
