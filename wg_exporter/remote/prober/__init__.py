"""The prober's process, as the exporter sees it."""
