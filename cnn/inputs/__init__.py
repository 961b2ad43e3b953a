"""Scenes → channels of a network: features, members' maps, normalisation, resizing, flips and turns."""
