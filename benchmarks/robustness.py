"""What Terrablend does when it is killed, when the machine has faults, and when files are damaged.

    python benchmarks/robustness.py kill --count 200 --seed 0
    python benchmarks/robustness.py faults --count 60 --seed 0
    python benchmarks/robustness.py fuzz --count 10000 --seed 0
    python benchmarks/robustness.py bundles --count 10000 --seed 0

The last line counts how it ended; the exit status is 1 if anything was unclean. See docs/reliability.md.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

CAMPAIGNS = ("kill", "faults", "fuzz", "bundles")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", choices=CAMPAIGNS)
    parser.add_argument("--count", type=int, default=100, help="of kills, faults, damaged copies or changed bundles")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-network", action="store_true", help="leave out the network, which takes most of the time")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    # Not above: workers, which are started by importing this file, need none of it.
    campaign = getattr(import_module(f"campaigns.{options.campaign}"), options.campaign)
    return 0 if campaign(options.count, options.seed, not options.no_network) else 1


if __name__ == "__main__":
    sys.exit(main())
