"""HTTP: where to listen, which formats and codings to serve, and the limits of clients."""
