"""Scores with intervals, areas, ablations and the verdict."""
