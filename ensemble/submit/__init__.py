"""Submissions: formats, each read back and checked."""
