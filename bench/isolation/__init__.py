"""isolation: processes for code that may do anything, and the certainty that they end."""
