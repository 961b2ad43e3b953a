"""The classes of an experiment: names, ids in files, label indices in arrays, colours."""

from dataclasses import dataclass
from typing import Literal

from data.errors import ExperimentError
from data.scenes.colors import BACKGROUND_COLOR, PALETTE
from data.settings import ClassSettings

__all__ = ["BACKGROUND", "IGNORE", "Classes", "Task"]

Task = Literal["binary", "multiclass", "multilabel"]

IGNORE = 255
"""Label value that is never trained on or scored, and value of a class map where nothing was predicted."""

BACKGROUND = "background"


@dataclass(frozen=True)
class Classes:
    """The classes of an experiment.

    In arrays a label is an *index* into ``label_names``: 0 (background) or 1 when the task is binary,
    0 … K-1 when it is multiclass. In files it is the class's id. When the task is multilabel the classes are
    tags, of which a scene as a whole has any number.

    Parameters
    ----------
    task : {"binary", "multiclass", "multilabel"}
    ids : tuple of int
        Value of each class in label files and class maps, 0 … 254.
    names : tuple of str
        One name per probability band: the positive class alone when binary.
    colors : tuple of (red, green, blue)
        0 … 255 each.
    """

    task: Task
    ids: tuple[int, ...]
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.names) == len(self.ids) == len(self.colors) == len(set(self.names)) == len(set(self.ids)):
            raise ValueError("expected an id, a name and a colour of each class")
        if not all(0 <= value < IGNORE for value in self.ids):
            raise ValueError(f"expected ids of classes from 0 to {IGNORE - 1}")
        if (self.task == "binary" and len(self.ids) != 1) or (self.task == "multiclass" and len(self.ids) < 2):
            raise ValueError(f"expected other classes for the task {self.task}")

    @classmethod
    def from_settings(cls, task: Task, settings: dict[int, ClassSettings]) -> "Classes":
        """Build the classes from the ``classes`` of an experiment file.

        Raises
        ------
        ExperimentError
            If their number does not suit the task, a name is used twice, or an id is not in 0 … 254.
        """
        if not settings:
            raise ExperimentError("classes: expected at least one class, got none. Name the classes to map.")
        ids = tuple(sorted(settings))
        names = tuple(settings[value].name for value in ids)
        if task == "binary" and (len(ids) != 1 or ids[0] == 0):
            raise ExperimentError(
                "classes: expected one class with an id above 0 for the task binary (all else is background), "
                f"got {dict(zip(ids, names, strict=True))}. Name the positive class alone, or use the task multiclass."
            )
        if task == "multiclass" and len(ids) < 2:
            raise ExperimentError(
                f"classes: expected at least two classes for the task multiclass, got {len(ids)}. "
                "Name every class, background too, or use the task binary."
            )
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ExperimentError(
                f"classes: expected distinct names, got {', '.join(twice)} twice. Rename one of them."
            )
        if ids[0] < 0 or ids[-1] >= IGNORE:
            raise ExperimentError(f"classes: expected ids from 0 to {IGNORE - 1}, got {ids[0]} … {ids[-1]}.")
        colors = []
        for position, value in enumerate(ids):
            red, green, blue = settings[value].color or PALETTE[position % len(PALETTE)]
            colors.append((red, green, blue))
        return cls(task, ids, names, tuple(colors))

    @property
    def n_questions(self) -> int:
        """Independent questions that a label answers: one, or when multilabel one a tag."""
        return len(self.names) if self.task == "multilabel" else 1

    @property
    def n_labels(self) -> int:
        """Labels to choose from in each question: the classes when multiclass, else no and yes."""
        return len(self.names) if self.task == "multiclass" else 2

    @property
    def exclusive(self) -> bool:
        """Whether a probability map has a plane a label, whose probabilities sum to one; else one a question."""
        return self.task == "multiclass"

    @property
    def label_names(self) -> tuple[str, ...]:
        """Name of each label index, the background of a binary task included."""
        return (BACKGROUND, *self.names) if self.task == "binary" else self.names

    @property
    def answers(self) -> tuple[tuple[str, ...], ...]:
        """The names of the ``n_labels`` answers to each question."""
        if self.task == "multilabel":
            return tuple((f"no {name}", name) for name in self.names)
        return (self.label_names,)

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """The question and its answer that each of ``label_names`` stands for: of a tag, that a scene has it."""
        unnamed = self.n_labels - len(self.label_names) // self.n_questions
        return tuple(
            (question, label) for question in range(self.n_questions) for label in range(unnamed, self.n_labels)
        )

    @property
    def label_ids(self) -> tuple[int, ...]:
        """File value of each label index."""
        return (0, *self.ids) if self.task == "binary" else self.ids

    @property
    def label_colors(self) -> tuple[tuple[int, int, int], ...]:
        """Colour of each label index."""
        return (BACKGROUND_COLOR, *self.colors) if self.task == "binary" else self.colors
