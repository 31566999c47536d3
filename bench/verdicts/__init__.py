"""verdicts: what samples say, with its uncertainty, and what may spoil it."""
