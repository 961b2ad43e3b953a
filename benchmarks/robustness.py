"""What Terrablend does when it is killed, when the machine has faults, and when files are damaged.

    python benchmarks/robustness.py kill --count 200 --seed 0
    python benchmarks/robustness.py faults --count 60 --seed 0
    python benchmarks/robustness.py fuzz --count 10000 --seed 0
    python benchmarks/robustness.py bundles --count 10000 --seed 0
    python benchmarks/robustness.py kill fuzz --count 200 10000 --seed 0

The last line of each counts how it ended; the exit status is 1 if anything was unclean. See docs/reliability.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

CAMPAIGNS = ("kill", "faults", "fuzz", "bundles")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run campaigns on one coast; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaigns", nargs="+", choices=CAMPAIGNS)
    counted = "of kills, faults, damaged copies or changed bundles: one number for all campaigns, or one for each"
    parser.add_argument("--count", type=int, nargs="+", default=[100], help=counted)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-network", action="store_true", help="leave out the network, which takes most of the time")
    options = parser.parse_args(arguments)
    counts = options.count * len(options.campaigns) if len(options.count) == 1 else options.count
    if len(counts) != len(options.campaigns):
        parser.error(f"--count: expected 1 or {len(options.campaigns)} numbers, got {len(counts)}")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    # Not above: workers, which are started by importing this file, need none of it.
    campaigns = [getattr(import_module(f"campaigns.{name}"), name) for name in options.campaigns]
    lab_of = import_module("campaigns.lab").Lab
    with tempfile.TemporaryDirectory(prefix="terrablend-robustness-") as temporary:
        # Nobody must get there.
        Path(temporary).chmod(0o755)
        lab = lab_of(Path(temporary), not options.no_network)
        clean = [campaign(lab, count, options.seed) for campaign, count in zip(campaigns, counts, strict=True)]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
