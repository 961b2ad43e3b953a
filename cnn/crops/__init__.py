"""Crops of scenes for training: where they lie, how often, and their augmentation."""
