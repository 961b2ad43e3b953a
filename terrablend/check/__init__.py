"""The page and the tables of `terrablend check`."""
