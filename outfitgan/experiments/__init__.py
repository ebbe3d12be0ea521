"""Experiments: each trains what it compares, measures it, and ends in a table, a plot and a JSON."""
