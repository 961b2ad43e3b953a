"""Training of one network under Lightning: plan, optimiser, validation, checkpoints, monitoring."""
