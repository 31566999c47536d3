"""plans: what will be timed, from what a user writes to a list of cells."""
