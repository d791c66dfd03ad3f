"""`wg-exporter check`: what is wrong with this installation, before it matters.

Facts are gathered first (`look`, the only part with I/O), then judged by small functions, a module for each subject.
What they find are rows with an id, a severity, a place and a fix; what could not be found out is said too, and is never
taken for well. `checks.py` has the list of all, from which docs/check.md is written.
"""
