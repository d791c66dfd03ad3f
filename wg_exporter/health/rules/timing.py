"""The times and numbers that the rules rest on, beside the limits that a user sets."""

from __future__ import annotations

# REJECT_AFTER_TIME, after which a session without a new handshake is dead, and time to make one (WireGuard paper, 6.1).
STALE_SECONDS = 200.0

# KEEPALIVE_TIMEOUT: a peer with nothing to say acknowledges data within this time. Only then is an answer late.
ACKNOWLEDGED_SECONDS = 10.0

# An answer to data is due after KEEPALIVE_TIMEOUT, 10 s, at the latest, and a handshake is tried again after 5.
ANSWER_SECONDS = 15.0

# After an outage it takes the prober a moment to ask again: that is no silence of the target.
SETTLED_SECONDS = 2 * ANSWER_SECONDS

# What is unanswered for this time is worth a closer look.
SUSPECT_SECONDS = 10.0

# A peer that appears has a state after this time; while an answer is due, this time after it was asked.
JUDGED_SECONDS = 30.0

# Where one packet in twenty is lost each way, six attempts that have nothing to do with each other go unanswered once
# in a million, two once in a hundred.
ATTEMPTS = 6
FIRST_ATTEMPTS = 2  # after a start: a state has to be found within 30 s, and starts are rare
