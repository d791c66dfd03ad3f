"""Host names of endpoints: when each is looked up, what came of it and, where the user wants that, the endpoint of a
peer that is down is set to what its name resolves to now.

The lookups are another process's (`resolver`), as answers come from strangers. What is set, and of which peer, is
decided here alone, by root's own files and by what this process has read of the peer itself. The exporter only says who
is down.
"""
