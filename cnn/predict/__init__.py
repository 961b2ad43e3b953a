"""Trained networks → probabilities of scenes, in bounded memory."""
