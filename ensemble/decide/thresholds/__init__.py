"""Learn thresholds and multipliers."""
