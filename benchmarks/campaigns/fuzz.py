"""Read damaged copies of every kind of file: each ends in a named error, or in the same content.

Ends: ``same`` (read as the sound file), ``clean`` (an error that names the file), of content that nothing seals
``noticed`` (found by the digests that `terrablend check --verify` compares) and, of files without any record, such as
tables, ``other`` (read with other content). All else is unclean: an error that names no file or fills a page, another
exception, other content of a sealed file, the end of the process, no end at all.
"""

from collections import Counter

from campaigns.damage import CLEAN, judge_copies
from campaigns.lab import Lab
from campaigns.model_files import make_models
from campaigns.plain_files import make_plain_files
from campaigns.run_files import make_run_files
from campaigns.user_files import make_user_files
from data.scenes.catalogue import Catalogue

__all__ = ["fuzz"]


def fuzz(lab: Lab, count: int, seed: int) -> bool:
    """Judge damaged copies, as many of each kind of file; print how they end, and return whether all end cleanly."""
    total: Counter[str] = Counter()
    made = lab.folder / "made"
    made.mkdir()
    catalogue = Catalogue.load(lab.reference / "run" / "catalogue.parquet")
    kinds = [
        *make_plain_files(made), *make_models(made, lab.networks), *make_user_files(made, catalogue),
        *make_run_files(lab),
    ]  # fmt: skip
    for place, kind in enumerate(kinds):
        ends: Counter[str] = Counter()
        part = count * (place + 1) // len(kinds) - count * place // len(kinds)
        for number, end, text in judge_copies(kind, part, seed):
            ends[end] += 1
            if end not in CLEAN:
                print(f"  {kind.name}, copy {number}: {end}: {text}")
        total += ends
        print(f"{kind.name:<40} {dict(ends)}", flush=True)
    unclean = total.total() - sum(total[end] for end in CLEAN)
    print(f"fuzz: {total.total()} inputs of {len(kinds)} kinds, seed {seed}: {dict(total)}; {unclean} unclean")
    return unclean == 0
