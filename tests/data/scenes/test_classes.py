"""Classes: the shape of a task, questions of labels each."""

import pytest

from data.scenes.classes import Classes


@pytest.mark.parametrize(
    ("task", "names", "shape"),
    [("binary", ("kelp",), (1, 2)), ("multiclass", ("sea", "rock", "kelp"), (1, 3)), ("multilabel", ("haze",), (1, 2))],
)
def test_a_task_is_questions_of_labels_each(task, names, shape):
    classes = Classes(task, tuple(range(len(names))), names, ((0, 0, 0),) * len(names))
    assert (classes.n_questions, classes.n_labels) == shape


def test_each_tag_is_a_question_of_its_own():
    classes = Classes("multilabel", (0, 1, 2), ("haze", "road", "river"), ((0, 0, 0),) * 3)
    assert (classes.n_questions, classes.n_labels) == (3, 2)
    assert classes.answers == (("no haze", "haze"), ("no road", "road"), ("no river", "river"))
    assert classes.places == ((0, 1), (1, 1), (2, 1))
