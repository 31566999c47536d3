"""The hub: the words that workers and callers share, by number (see `pool.py`)."""

from __future__ import annotations

# The hub's words, each on a cache line of its own (two, for processors that fetch them in pairs).
LINE = 16
LOCK, TICKET, JOB, SPACE_AT, SPACES, DONE, SLEEPERS, STOP, WORKERS = range(0, 9 * LINE, LINE)
SLOTS = 9 * LINE
# How many products may run at once with workspaces that are kept; more make their own and give it back.
MOST_SLOTS = 64
BUSY, ADDRESS, CAPACITY = 0, 1, 2
HUB_WORDS = SLOTS + MOST_SLOTS * LINE
