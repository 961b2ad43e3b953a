"""Losses of pixels and of tags, with weights of classes and pixels."""
