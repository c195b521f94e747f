"""The gate: what passes, what is refused, and what is left behind."""
