"""Sinks of verdicts, one file a sink."""
