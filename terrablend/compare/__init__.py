"""Compare experiments: the same groups and folds, all labels and fewer, one table and one page."""
