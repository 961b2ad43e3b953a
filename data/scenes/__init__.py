"""What lies on disk: scenes of named bands on one grid, their labels, and the catalogue of them all."""
