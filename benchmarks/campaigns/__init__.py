"""Campaigns of `benchmarks/robustness.py`: what is killed, damaged or refused, and how it must end."""
