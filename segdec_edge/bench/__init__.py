"""Latency, cost and accuracy of one artefact in one row, each with how sure it is."""
