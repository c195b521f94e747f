"""Metrics, thresholds, the report. Scores any Backend; knows no framework."""
