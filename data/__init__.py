"""Files on disk ↔ arrays: scenes, grids, labels, the catalogue, groups, folds, statistics, maps.

This folder is code; data sets live outside the repository.
"""
