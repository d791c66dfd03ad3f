"""A day in the life of 500 peers, told second by second, and whether the right people are woken by it.

Four parts, each of which believes only the one before: `wireguard` moves counters as the kernel's timers do, `people`
use the tunnels and `plan` breaks some, `host` watches them with the exporter's own health and is scraped, and `pages`
has a real Prometheus engine run the shipped rules over the series. Everything follows from one seed.
"""
