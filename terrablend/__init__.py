"""The front door: command line, experiment file, run folder, progress, demo data."""
