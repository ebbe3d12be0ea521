"""Losses, the trainings and their checkpoints."""
