"""Where the parts are wired: the tick, the scrape, the reload, and the server that answers."""
