"""Search for better settings of a member, on the same folds."""
