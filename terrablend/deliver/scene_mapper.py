"""Map new scenes by the members of a finished run, one after the other or in processes, to the same bytes."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

from data.errors import FeatureError
from data.maps.member import Member
from data.maps.store import in_windows, map_path, open_store, worth_workers
from data.progress import untracked
from data.scenes.scene import Scene
from data.workers import held, map_ordered
from ensemble.ensemble import Ensemble
from ensemble.maps import MemberMaps, open_maps
from ensemble.predict import model_tags, write_prediction
from features.applicability import write_applicability
from terrablend.branches import branch_of
from terrablend.run.scene_run import Run

__all__ = ["APPLICABILITY", "CLASSES", "PROBA", "SETS", "UNCERTAINTY", "SceneMapper"]

CLASSES, PROBA, UNCERTAINTY, SETS, APPLICABILITY = "_classes", "_proba", "_uncertainty", "_sets", "_applicability"
"""What the names of maps end in: none has the name of its scene."""


@dataclass(frozen=True)
class SceneMapper:
    """Maps scenes; can be sent to a process, which loads the members once.

    Parameters
    ----------
    run : Run
        With a finished ensemble.
    out : Path
        Gets a map of each of ``kinds``.
    folder : Path
        For the maps of members, while a scene is mapped.
    members : tuple of str
        In an order in which those come first that others are stacked on.
    given : mapping of str to str
        Pattern of the maps of each member that computes none.
    kinds : tuple of str
        What is written.
    measured : str or None
        Member by whose columns applicability is told.
    """

    run: Run
    out: Path
    folder: Path
    members: tuple[str, ...]
    given: Mapping[str, str]
    kinds: tuple[str, ...]
    measured: str | None = None

    def map(self, scenes: Sequence[Scene], executor: Executor | None) -> Iterator[None]:
        """Map scenes, in processes if there are enough of them and no member is better off with all threads."""
        loadings = [(branch_of(self.run.member_settings(name)), self.run.loading(name)) for name in self.members]
        apart = all(branch.by_process(loading) for branch, loading in loadings)
        if apart and not in_windows(executor, scenes) and (executor := worth_workers(executor, scenes)):
            alone = replace(self.run, workers=1, executor=None, track=untracked)
            yield from map_ordered(replace(self, run=alone), scenes, executor)
            return
        opened = self.open()
        for scene in scenes:
            opened.map(scene)
            yield

    def __call__(self, scene: Scene) -> None:
        """Map a scene in a worker."""
        held(self.open).map(scene)

    def open(self) -> "OpenMapper":
        """Load the ensemble and the members."""
        # Processes of several machines may have the same number.
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        members = [self.run.load_member(name, folder, self.given.get(name)) for name in self.members]
        return OpenMapper(self, folder, self.run.load_ensemble(), members)


@dataclass(frozen=True)
class OpenMapper:
    """A mapper whose members are loaded; their maps of a scene lie in a folder for as long as it is mapped."""

    mapper: SceneMapper
    folder: Path
    ensemble: Ensemble
    members: Sequence[Member]

    def map(self, scene: Scene) -> None:
        """Write the maps of a scene."""
        mapper, run = self.mapper, self.mapper.run
        maps = self.apply([scene])
        files = {kind: mapper.out / f"{scene.id}{kind}.tif" for kind in mapper.kinds}
        write_prediction(
            self.ensemble, maps, scene, files[CLASSES], files[PROBA], files.get(UNCERTAINTY), run.masks, files.get(SETS)
        )
        if mapper.measured is not None:
            facts = {"scene": scene.id, **model_tags(self.ensemble)}
            applicability = run.load_applicability(mapper.measured)
            write_applicability(applicability, run.formulas, scene, files[APPLICABILITY], facts)
        for member in self.members:
            map_path(self.folder / member.name, scene).unlink()

    def apply(self, scenes: Sequence[Scene]) -> MemberMaps:
        """Write the maps of members, a folder each, and return those of the ones that the ensemble uses."""
        for member in self.members:
            planes = self.mapper.run.member_settings(member.name).planes
            store = open_store(self.folder / member.name, self.ensemble.classes, planes)
            for path, together in store.files(scenes).items():
                try:
                    store.write(path, member, together)
                except FeatureError as error:
                    # The experiment names the bands of scenes.
                    raise FeatureError(f"{self.mapper.run.file}: {error}") from error
        return open_maps({name: self.folder / name for name in self.ensemble.used}, self.ensemble.classes)
