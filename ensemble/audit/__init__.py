"""Where the ensemble contradicts the labels: regions to look at again."""
