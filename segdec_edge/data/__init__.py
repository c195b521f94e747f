"""Data sets and their splits, masks, the synthetic parts maker. Knows no torch."""
