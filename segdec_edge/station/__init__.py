"""Frame to verdict: inspection, the loop, the live table."""
