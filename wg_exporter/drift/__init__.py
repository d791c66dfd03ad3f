"""Configuration drift: how a device differs from the file that describes it. docs/drift.md says what counts."""
