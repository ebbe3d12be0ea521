"""Latency and parity of every hop, as commands."""
