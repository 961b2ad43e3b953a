import numpy as np
import pytest

from ensemble import BLEND, EnsembleSettings
from ensemble.objective import objective_of
from ensemble.score.ablation import ablate
from ensemble.score.evaluation import PLAIN, UNCALIBRATED, UNCLEANED, Evaluation, alone
from ensemble.score.verdict import verdict_text

from ..conftest import KELP

SETTINGS = EnsembleSettings()
DICE = objective_of(SETTINGS, KELP)


def evaluate(hits, final=BLEND, n_scenes=12, n_groups=12):
    """Return counts of 100 positive pixels a scene of which each candidate finds some: one number, or one a scene."""
    counts = {
        name: {
            f"s{scene}": np.array([[[900, 0, 0], [100 - found, found, 0]]])
            for scene, found in enumerate(np.broadcast_to(many, n_scenes))
        }
        for name, many in hits.items()
    }
    return Evaluation("train", counts, {f"s{scene}": f"g{scene % n_groups}" for scene in range(n_scenes)}, final)


def verdict(evaluation, members=("trees", "unet"), used=("trees", "unet")):
    return verdict_text(evaluation, members, used, DICE, SETTINGS)


def test_a_gain_in_every_scene_pays():
    said = verdict(evaluate({"trees": 60, "unet": 50, BLEND: 80}))
    assert said == (
        "The blend pays: Dice 0.8889 out of fold, trees alone 0.7500, a gain of +0.1389, "
        "95% interval +0.1389 to +0.1389."
    )


def test_a_gain_here_and_a_loss_there_is_not_shown_and_could_be_more():
    said = verdict(evaluate({"trees": 60, "unet": 50, BLEND: [63, 58] * 6}))
    assert said.startswith("The blend reaches Dice 0.7539 out of fold, trees alone 0.7500: +0.0039, 95% interval -0.00")
    assert said.endswith("; no gain shown; it could be up to +0.0173.")


def test_three_groups_give_no_interval_and_five_a_warning():
    said = verdict(evaluate({"trees": 60, "unet": 50, BLEND: 80}, n_groups=3))
    assert said.endswith(": +0.1389; too few groups for an interval.")
    said = verdict(evaluate({"trees": 60, "unet": 50, BLEND: 80}, n_groups=5))
    assert said.endswith(" Of 5 groups alone intervals may be too narrow.")


def test_a_member_without_weight_is_named():
    said = verdict(evaluate({"trees": 60, "unet": 50, "noise": 10, BLEND: 80}), ("trees", "unet", "noise"))
    assert said.endswith(" noise got no weight.")


def test_a_member_adds_nothing_only_where_it_cannot_add_what_matters():
    evaluation = evaluate({"trees": 60, "unet": 50, BLEND: 55}, final="trees")
    said = verdict(evaluation, used=("trees",))
    assert said.startswith("unet harms, so trees is used alone: the blend reaches Dice 0.7097")
    same = verdict(evaluate({"trees": 60, "unet": 50, BLEND: 60}), used=("trees",))
    assert same.startswith("unet adds nothing here, so trees is used alone: Dice 0.7500 out of fold.")
    unsure = verdict(evaluate({"trees": 60, "unet": 50, BLEND: [62, 57] * 6}, final="trees"), used=("trees",))
    assert unsure.startswith("trees is used alone, no gain shown; it could be up to +0.0")


def test_a_blend_that_was_chosen_although_it_loses_out_of_fold_is_told_as_that():
    said = verdict(evaluate({"trees": 60, "unet": 50, BLEND: 55}))
    assert said.startswith("Out of fold blending does not pay: Dice 0.7097 out of fold, trees alone 0.7500 (-0.0403")


def test_blends_of_folds_that_gain_may_still_end_in_one_member():
    said = verdict(evaluate({"trees": 60, "unet": 50, BLEND: 62}), used=("trees",))
    assert said.startswith("The blends chosen fold by fold reach Dice 0.7654")
    assert said.endswith("on all folds together trees alone is best and is used alone.")


def test_one_member_has_nothing_to_blend_with():
    said = verdict(evaluate({"trees": 60, BLEND: 60}), ("trees",), ("trees",))
    assert said == "One member, trees: Dice 0.7500 out of fold. There is nothing to blend."


def test_a_member_without_a_score_is_never_the_best():
    evaluation = evaluate({"trees": 60, "unet": 50, BLEND: 80})
    evaluation.counts["unet"] = {scene: np.zeros((1, 2, 3), int) for scene in evaluation.counts["unet"]}
    assert "trees alone 0.7500" in verdict(evaluation, ("unet", "trees"))


def test_each_step_is_told_with_its_score_its_gain_and_a_verdict(caplog):
    caplog.set_level("INFO")
    hits = {"gbdt": 60, "unet": 50, BLEND: 80, UNCALIBRATED: 80, PLAIN: [82, 77] * 6, UNCLEANED: 70}
    found = ablate(evaluate(hits), {"gbdt": "trees", "unet": "cnn"}, DICE, SETTINGS)
    assert [(one.name, one.candidate) for one in found] == [
        ("trees alone", "gbdt"),
        ("CNN alone", "unet"),
        ("uncalibrated", UNCALIBRATED),
        ("plain threshold", PLAIN),
        ("uncleaned", UNCLEANED),
    ]
    assert [one.verdict.split(":")[-1].strip() for one in found[:1]] == ["more than chance"]
    assert found[0].verdict == "the CNN gained +0.1389 (+0.1389 to +0.1389): more than chance"
    assert found[2].verdict == "calibration added nothing"
    assert found[3].verdict == "no gain of thresholds is shown: +0.0031 (−0.0077 to +0.0139)"
    assert found[4].gain.value == pytest.approx(found[4].gain.low)
    head, *lines = caplog.messages
    assert head == "left out, with 95% intervals over 12 groups:"
    for one, line in zip(found, lines, strict=True):
        assert line == f"{one.name}: Dice {one.score.value:.4f}; {one.verdict}"


def test_a_second_branch_that_adds_nothing_is_told_plainly():
    hits = {"gbdt": 60, "unet": 50, BLEND: [61, 58] * 6}
    chance, _ = ablate(evaluate(hits), {"gbdt": "trees", "unet": "cnn"}, DICE, SETTINGS)
    assert chance.verdict.startswith("no gain of the CNN is shown: −0.0039 (")
    hits = {"gbdt": 60, "unet": 50, BLEND: 61, UNCALIBRATED: 20}
    none, other = ablate(evaluate(hits, "gbdt"), {"gbdt": "trees", "unet": "cnn"}, DICE, SETTINGS)
    assert none.verdict == "the CNN added nothing"
    assert other.verdict.startswith("the trees gained +0.0833")
    (lost, _) = ablate(evaluate({**hits, BLEND: 40}), {"gbdt": "trees", "unet": "cnn"}, DICE, SETTINGS)[:2]
    assert lost.verdict == "the CNN harmed: −0.1786 (−0.1786 to −0.1786)"


def test_a_branch_of_several_members_is_their_own_blend_and_one_branch_is_not_asked_about():
    hits = {"gbdt": 60, "forest": 55, "unet": 50, alone("trees"): 65, BLEND: 80}
    branches = {"gbdt": "trees", "forest": "trees", "unet": "cnn"}
    trees, cnn = ablate(evaluate(hits), branches, DICE, SETTINGS)
    assert (trees.candidate, cnn.candidate) == ("trees alone", "unet")
    assert ablate(evaluate(hits), {"gbdt": "trees", "forest": "trees"}, DICE, SETTINGS) == []


def test_few_groups_are_told_to_be_few_and_nothing_left_out_is_not_told_at_all(caplog):
    caplog.set_level("INFO")
    ablate(evaluate({BLEND: 60, PLAIN: 50}, n_groups=4), {}, DICE, SETTINGS)
    assert caplog.messages[0].endswith("over 4 groups, so few that they may be too narrow:")
    caplog.clear()
    ablate(evaluate({BLEND: 60}), {}, DICE, SETTINGS)
    assert caplog.messages == []
