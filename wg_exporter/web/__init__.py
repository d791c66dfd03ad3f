"""HTTP: what is served to whom, in which format, and where."""
