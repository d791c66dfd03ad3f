"""One file per place that data comes from. A source reads, decodes, and raises `SourceError`; it decides nothing."""
