"""Learn how labels are cleaned."""
