"""The front door: command line, experiment file, run folder, progress, demo data."""

import os

# Threads that spin while they wait are 20 times slower once another program wants a core. OpenMP reads this when the
# first library that uses it is loaded, so it is set before any is.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
