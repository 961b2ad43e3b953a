"""A finished ensemble at work: new scenes, bundles, model records, scores of maps."""
