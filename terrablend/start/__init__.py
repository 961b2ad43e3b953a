"""First steps: an experiment file from a folder or a recipe, and the synthetic coast of the demo."""
