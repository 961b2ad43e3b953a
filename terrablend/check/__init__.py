"""The page that `terrablend check` draws of the data."""
