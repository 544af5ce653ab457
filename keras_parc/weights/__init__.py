"""Weights from elsewhere: name maps and readers."""
