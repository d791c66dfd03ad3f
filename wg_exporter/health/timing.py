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

# Routes and allowed IPs are in the way for this time, before it counts: they are also so while an interface is set up.
OBSTRUCTED_SECONDS = 15.0

# A peer of which something is unanswered for this time is suspicious.
SUSPECT_SECONDS = 10.0

# A peer has a state this long after it appeared or, if an answer is due by then, this long after it was asked for.
JUDGED_SECONDS = 30.0

# If one packet in twenty is lost each way, six independent attempts go unanswered once in a million times, two once in
# a hundred.
ATTEMPTS = 6
FIRST_ATTEMPTS = 2  # of a peer that appeared, which is rare: a state has to be found within 30 s
SHAKEN_ATTEMPTS = 4  # of one that appeared and made a handshake since

# A peer that does not hear our responses calls again every 5.0 to 5.3 s: this many calls within this time prove it. A
# session that fails once in a while takes two. Looks are 5 s apart, so 12 s may seem to be 17.
CALLS = 3
CALLS_WITHIN = 17.0

# A peer that hears our responses and no data starts a handshake every 15 to 20 s; 5 s more or less for the looks. Both
# sides may start one at the same time, so those that are nearer prove nothing.
WOKEN = 2
WOKEN_LEAST = 8.0
WOKEN_MOST = 25.0
WOKEN_LASTS_SECONDS = 60.0  # without such a handshake, whose stamp nothing hides, it hears again

# If so many calls take longer than this, they are those of a peer that hears our responses, and calls every 15 s.
# Others call every 5 s. Looks are 5 s apart, and one that hears nothing pauses after 90 s, for some 20 s; so four of
# its calls take 35 s at most.
HEARS_WITHIN = {2: 12.5, 3: 20.0, 4: 40.0}

# Two calls or handshakes of a peer that hears nothing are no farther apart, its pause included. Others make one every
# 120 s.
CALLING_SECONDS = 30.0

# In a silence that began less than this ago probes are frequent, and whoever hears starts no handshake. Later the only
# thing that a peer hears may be a keepalive every 10 s, of which some are lost: then it takes more to prove the same.
FRESH_SECONDS = 50.0
MORE_CALLS = 5
MORE_WOKEN = 4

# If handshakes pass and no echoes are answered, only acknowledgements tell that data arrives. The first is due 10 s
# after data, and each that is lost is followed by a handshake, which puts the next off: one every 20 s. Four of them
# are lost in a row once in 160,000 times where one in twenty is lost. So many are waited for, with `down_after` in it.
ACKNOWLEDGEMENTS_SECONDS = 50.0

# Where echoes were lost lately, the first acknowledgement may have been lost as well: the next comes 10 s after data
# that follows the handshake.
AGAIN_ACKNOWLEDGED_SECONDS = 12.0

# Between two looks at the counters, mostly: what happened may have been seen this much later.
LOOK_SECONDS = 5.0

# Handshake messages that WireGuard made by its counters, and that were not seen leaving: this many prove that nothing
# leaves.
MADE = 2

# An initiation is tried again within 5.3 s, for 90 s. Two tries take this long, and a pause between two such times.
RETRIED_SECONDS = 11.0
RETRIES_SECONDS = 90.0
CALLS_LEFT_SECONDS = 22.0

# A peer that hears no data calls every 15 s: whoever did not within this time, while it was watched, does so no more.
WATCHED_SECONDS = 18.0

# What the watcher saw is believed until a later window, of which one comes every 10 minutes while there is a doubt; and
# no longer, for it may have been switched off.
BELIEVED_SECONDS = 800.0
