"""Probability maps and class maps on disk, and the members that fill them."""
