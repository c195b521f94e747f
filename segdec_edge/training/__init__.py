"""Losses, frequency-of-use sampling, one readable loop."""
