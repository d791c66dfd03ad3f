"""Looks host names up, as a process without any right: what answers come of, DNS, is sent by strangers.

It is asked by the reader alone. What it tells are addresses, which the reader checks.
"""
