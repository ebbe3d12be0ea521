"""Engines of OpenVINO's CPU plugin, and INT8 graphs for it."""
