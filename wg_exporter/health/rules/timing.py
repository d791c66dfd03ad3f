"""The times and numbers of the rules, besides the limits that a user sets."""

from __future__ import annotations

# REJECT_AFTER_TIME, after which a session without a new handshake is dead, and time to make one (WireGuard paper, 6.1).
STALE_SECONDS = 200.0

# KEEPALIVE_TIMEOUT: a peer with nothing to send acknowledges data after this time. Only then is an answer overdue.
ACKNOWLEDGED_SECONDS = 10.0

# An answer to data is due after 10 s at the latest (KEEPALIVE_TIMEOUT), and a handshake is tried again after 5 s.
ANSWER_SECONDS = 15.0

# After an outage a target counts as silent only after this time, as the prober may ask again late.
SETTLED_SECONDS = 2 * ANSWER_SECONDS

# A peer of which something is unanswered for this time is suspicious.
SUSPECT_SECONDS = 10.0

# A peer has a state this long after it appeared or, if an answer is due by then, this long after it was asked for.
JUDGED_SECONDS = 30.0

# If one packet in twenty is lost each way, six independent attempts go unanswered once in a million times, two once in
# a hundred.
ATTEMPTS = 6
FIRST_ATTEMPTS = 2  # of a peer that appeared, which is rare: a state has to be found within 30 s
