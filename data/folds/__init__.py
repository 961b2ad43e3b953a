"""Groups of scenes that belong together, folds that never split them, and what still leaks."""
