"""Wires the parts: the tick, the scrape, the reload, and the server that answers."""
