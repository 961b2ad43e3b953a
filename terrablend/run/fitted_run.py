"""What a finished run is applied by: its ensemble, and the models that the ensemble was fitted to."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data.errors import EnsembleError
from data.files import hash_file
from ensemble.ensemble import Ensemble
from terrablend.experiment import E
from terrablend.experiment.stacking import learning_order
from terrablend.run.base_run import BaseRun

__all__ = ["FittedRun"]

MODEL = re.compile(r"fold\d+\.(txt|ubj|cbm|npz|safetensors|zip|json)")
"""Files of a member's folder that hold a model, or its hash; its maps and the story of its training are not needed."""


@dataclass(frozen=True)
class FittedRun(BaseRun[E]):
    """A run whose members an ensemble is fitted to."""

    def load_ensemble(self) -> Ensemble:
        """Return the fitted ensemble; raises EnsembleError if there is none, or it is of other members."""
        path = self.folder.path / "ensemble" / "ensemble.json"
        ensemble = Ensemble.load(path)
        if others := [name for name in ensemble.members if name not in self.experiment.members]:
            raise EnsembleError(
                f"{path}: expected an ensemble of members of the experiment, got {others[0][:100]!r}. Fit it again: "
                f"`terrablend ensemble {self.source} --overwrite`."
            )
        return ensemble

    def model_files(self, name: str) -> list[Path]:
        """Return the files that apply a member: what it is, and its models."""
        folder = self.member_path(name)
        return [folder / "member.json", *sorted(path for path in folder.glob("fold*") if MODEL.fullmatch(path.name))]

    def hash_models(self, names: Iterable[str]) -> dict[str, str]:
        """Return the SHA-256 of each file that applies some members, by its path below the run folder."""
        paths = [path for name in names for path in self.model_files(name) if path.exists()]
        return {path.relative_to(self.folder.path).as_posix(): hash_file(path) for path in paths}

    def require_models(self, ensemble: Ensemble) -> None:
        """Refuse members that are others than the ensemble was fitted to.

        Raises
        ------
        EnsembleError
            Naming the first file that is another.
        """
        needed = learning_order(self.experiment.members, ensemble.used)
        now = self.hash_models(needed)
        fitted = {name: sha256 for name, sha256 in ensemble.models.items() if set(Path(name).parts[1:2]) & {*needed}}
        if others := sorted({name for name, _ in now.items() ^ fitted.items()}):
            raise EnsembleError(
                f"{self.folder.path / others[0]}: expected the file that the ensemble was fitted to, got "
                f"{'another' if others[0] in now else 'none'}: the stage ensemble is stale. "
                f"Make it again: `terrablend ensemble {self.source} --overwrite`."
            )
