"""Decide calibrations and weights: average first, or the best of all that can be fitted."""
