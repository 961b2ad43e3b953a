"""Boosting libraries behind one protocol."""
