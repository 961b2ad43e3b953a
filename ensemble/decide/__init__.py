"""How maps become labels: calibrations, blends, thresholds and cleaning, each chosen on parts left out."""
