"""What a decision is, and how it is applied to maps."""
