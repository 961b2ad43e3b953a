"""Fitted boosters as plain arrays, and their fast evaluation."""
