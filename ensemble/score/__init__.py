"""What the labels are worth: scores with intervals, areas, ablations and the verdict."""
