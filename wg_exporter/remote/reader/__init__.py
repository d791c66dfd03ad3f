"""The reader's process, as the exporter sees it."""
