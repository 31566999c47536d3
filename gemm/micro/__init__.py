"""numba-micro."""
