"""Metrics, experiments and pictures."""
