"""Losses on logits, and weighted sums of them; pixels labelled `IGNORE` count for nothing and get no gradient.

A network has one logit a pixel when the task is binary (sigmoid) and one a class when it is multiclass (softmax).
Both are one thing here: the sigmoid of z is the softmax of 0 and z, so a binary pixel has two labels with a
probability each, background and positive. The truth of a pixel is a share of each label (N, L, H, W): 1 for one of
them where the label is hard, several that add up to 1 where it is soft, all 0 where it is unknown.

Losses of *pixels* (ce, bce, focal) are means over the labelled pixels. Losses of *regions* (dice, jaccard, tversky,
lovasz, mcc, boundary) are means over the labels that the batch holds; the background of a binary task is none of them
unless `region_weights` says so. Pixels are pooled over the batch: the Dice of single crops jumps between 0 and 1
wherever a class is rare.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from cnn.losses.distances import signed_distances
from cnn.losses.loss_terms import LossName
from data.scenes.classes import IGNORE

__all__ = ["LOSSES", "Evidence", "Loss", "LossOptions", "WeightedLoss", "label_shares"]

TINY = 1e-7


@dataclass(frozen=True)
class LossOptions:
    """Parameters of losses of pixels and regions.

    Parameters
    ----------
    class_weights : tuple of L floats
        Weight of a pixel of each label in losses of pixels.
    region_weights : tuple of L floats
        Weight of each label in losses of regions.
    smoothing : float in [0, 1)
        Share of the truth that losses of pixels spread evenly over the labels.
    gamma : float
        Of focal.
    alpha, beta : float
        Of tversky: weight of false positives and of false negatives.
    """

    class_weights: tuple[float, ...]
    region_weights: tuple[float, ...]
    smoothing: float = 0.0
    gamma: float = 2.0
    alpha: float = 0.3
    beta: float = 0.7


@dataclass(frozen=True)
class Evidence:
    """Predictions of some pixels, and their truth.

    Parameters
    ----------
    log_proba : (N, L, H, W) float32
        Logarithm of the probability of each label.
    truth : (N, L, H, W) float32
        Share of each label; they add up to 1 where it is known and to 0 elsewhere.
    known : (N, 1, H, W) float32
        1 where the truth is known, else 0.
    options : LossOptions
    class_weights, region_weights : (L,) float32
        Those of the options, where the other tensors are.
    """

    log_proba: Tensor
    truth: Tensor
    known: Tensor
    options: LossOptions
    class_weights: Tensor
    region_weights: Tensor

    @classmethod
    def of(
        cls, logits: Tensor, truth: Tensor, options: LossOptions, class_weights: Tensor, region_weights: Tensor
    ) -> "Evidence":
        """Read logits (N, K, H, W) of any float type, K = 1 when binary."""
        known = truth.sum(dim=1, keepdim=True) > 0.5
        # What is unknown is masked here, for all losses: it gets no gradient, whatever the network predicts there.
        logits = torch.where(known, logits.float(), 0)
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return cls(log_softmax(logits, dim=1), truth, known.float(), options, class_weights, region_weights)

    @property
    def proba(self) -> Tensor:
        """Probability of each label (N, L, H, W), 0 where the truth is unknown."""
        return self.log_proba.exp() * self.known

    @property
    def log_other(self) -> Tensor:
        """Logarithm of 1 - the probability of each label (N, L, H, W).

        That of the likeliest label is the sum of the others: 1 - 0.9999999999 is 0 in float32.
        """
        if self.log_proba.shape[1] == 2:
            return self.log_proba.flip(1)
        best = self.log_proba.argmax(dim=1, keepdim=True)
        is_best = torch.zeros_like(self.log_proba, dtype=torch.bool).scatter_(1, best, True)
        others = self.log_proba.masked_fill(is_best, -torch.inf).logsumexp(dim=1, keepdim=True)
        # At most 1/2, or something harmless where the other branch is taken: its gradient must be finite too.
        least = torch.where(is_best, -1.0, self.log_proba)
        return torch.where(is_best, others, torch.log1p(-least.exp()))


Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (N, K, H, W), truth) → scalar float32; see `WeightedLoss`."""


def label_shares(label: Tensor, labels: int) -> Tensor:
    """Return the share of each label (N, L, H, W) float32 of label indices (N, H, W), all 0 where they are `IGNORE`."""
    return (label[:, None] == torch.arange(labels, device=label.device)[:, None, None]).float()


def cross_entropy(evidence: Evidence) -> Tensor:
    """Return the cross entropy."""
    return _mean_of_pixels(-evidence.log_proba, evidence)


def binary_cross_entropy(evidence: Evidence) -> Tensor:
    """Return the mean over the labels of the binary cross entropy of each against all others.

    The probabilities are those that the network is applied with, of a softmax where there are several classes. When
    binary it is the cross entropy.
    """
    other = evidence.log_other
    each = evidence.log_proba + other.sum(dim=1, keepdim=True) - other
    return _mean_of_pixels(-each / each.shape[1], evidence)


def focal(evidence: Evidence) -> Tensor:
    """Return the cross entropy, each pixel times (1 - the probability of what is true) to the power of gamma.

    References
    ----------
    Lin, Goyal, Girshick, He and Dollár 2017, Focal loss for dense object detection, doi:10.1109/ICCV.2017.324.
    """
    # The power of a logarithm is a product: no power of 0, whose gradient is infinite where gamma is less than 1.
    doubt = (evidence.options.gamma * evidence.log_other).exp()
    return _mean_of_pixels(-doubt * evidence.log_proba, evidence)


def tversky(evidence: Evidence, alpha: float | None = None, beta: float | None = None) -> Tensor:
    """Return 1 - the Tversky index: hits / (hits + alpha false alarms + beta misses).

    Of soft labels the hits are what probability and truth have in common: unlike their product it has its best value
    where they agree.

    References
    ----------
    Salehi, Erdogmus and Gholipour 2017, Tversky loss function, doi:10.1007/978-3-319-67389-9_44.
    Wang, Ning and Blaschko 2023, Jaccard metric losses: optimizing the Jaccard index with soft labels, NeurIPS.
    """
    alpha = evidence.options.alpha if alpha is None else alpha
    beta = evidence.options.beta if beta is None else beta
    hits, predicted, labelled = _counts(evidence)
    index = hits / (hits + alpha * (predicted - hits) + beta * (labelled - hits)).clamp(min=TINY)
    return _mean_of_labels(1 - index, labelled > 0, evidence)


def dice(evidence: Evidence) -> Tensor:
    """Return 1 - the Dice coefficient of probabilities and labels.

    References
    ----------
    Milletari, Navab and Ahmadi 2016, V-Net, doi:10.1109/3DV.2016.79 (with p rather than p² in the denominator).
    """
    return tversky(evidence, 0.5, 0.5)


def jaccard(evidence: Evidence) -> Tensor:
    """Return 1 - the Jaccard index, or intersection over union, of probabilities and labels."""
    return tversky(evidence, 1.0, 1.0)


def matthews(evidence: Evidence) -> Tensor:
    """Return 1 - Matthews' correlation coefficient of each label against all others.

    A label that is that of no pixel or of all has none.

    References
    ----------
    Abhishek and Hamarneh 2021, Matthews correlation coefficient loss, doi:10.1109/ISBI48211.2021.9433782.
    """
    total = evidence.known.sum().clamp(min=1)
    hits, predicted, labelled = (count / total for count in _counts(evidence))
    # One pixel of a hundred million still has more than this.
    spreads = (predicted * (1 - predicted)).clamp(min=1e-9) * (labelled * (1 - labelled)).clamp(min=1e-9)
    coefficient = (hits - predicted * labelled) / spreads.sqrt()
    return _mean_of_labels(1 - coefficient, (labelled > 0) & (labelled < 1), evidence)


def lovasz(evidence: Evidence) -> Tensor:
    """Return the Lovász extension of 1 - the Jaccard index, of the errors of the probabilities.

    References
    ----------
    Berman, Rannen Triki and Blaschko 2018, The Lovász-softmax loss, doi:10.1109/CVPR.2018.00464.
    """
    proba, known = evidence.proba, evidence.known.flatten().double()
    each = []
    for index, weight in enumerate(evidence.options.region_weights):
        if weight == 0:
            each.append(proba.new_zeros(()))
            continue
        truth = evidence.truth[:, index].flatten()
        errors, order = (truth - proba[:, index].flatten()).abs().sort(descending=True)
        each.append((errors * _jaccard_steps(truth[order].double(), known[order])).sum())
    return _mean_of_labels(torch.stack(each), evidence.truth.sum(dim=(0, 2, 3)) > 0, evidence)


def boundary(evidence: Evidence) -> Tensor:
    """Return the mean over the labelled pixels of the probability of a label times the distance to it, in pixels.

    Negative distances reward what lies inside. It knows where, but not whether: add it to another loss, with a weight
    of 0.01 or so.

    References
    ----------
    Kervadec et al. 2019, Boundary loss for highly unbalanced segmentation, PMLR 102, arXiv:1812.07032.
    """
    hard = torch.where(evidence.known[:, 0] > 0, evidence.truth.argmax(dim=1), IGNORE).to(torch.uint8)
    distances = torch.from_numpy(signed_distances(hard.cpu().numpy(), evidence.truth.shape[1]))
    each = (evidence.proba * distances.to(hard.device)).sum(dim=(0, 2, 3)) / evidence.known.sum().clamp(min=1)
    return _mean_of_labels(each, evidence.truth.sum(dim=(0, 2, 3)) > 0, evidence)


LOSSES: dict[LossName, Callable[[Evidence], Tensor]] = {
    "ce": cross_entropy,
    "bce": binary_cross_entropy,
    "focal": focal,
    "dice": dice,
    "jaccard": jaccard,
    "tversky": tversky,
    "lovasz": lovasz,
    "mcc": matthews,
    "boundary": boundary,
}
"""Each gives a scalar float32; 0 if no pixel is labelled."""


class WeightedLoss(nn.Module):
    """A weighted sum of losses.

    Parameters
    ----------
    terms : mapping of str to float
        Weights by the losses' names.
    options : LossOptions
    """

    def __init__(self, terms: Mapping[LossName, float], options: LossOptions) -> None:
        super().__init__()
        self.terms, self.options = dict(terms), options
        self.class_weights: Tensor
        self.region_weights: Tensor
        # They go along to a GPU, but are settings, not part of what is learned.
        self.register_buffer("class_weights", torch.tensor(options.class_weights), persistent=False)
        self.register_buffer("region_weights", torch.tensor(options.region_weights), persistent=False)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        logits : (N, K, H, W)
            Any float type; computed in float32. K = 1 when binary.
        truth : (N, H, W) uint8, or (N, L, H, W) float32
            Label indices or `IGNORE`, or the share of each label, all 0 where it is unknown.
        """
        if truth.ndim == 3:
            truth = label_shares(truth, len(self.options.class_weights))
        evidence = Evidence.of(logits, truth, self.options, self.class_weights, self.region_weights)
        return torch.stack([weight * LOSSES[name](evidence) for name, weight in self.terms.items()]).sum()


def _mean_of_pixels(each: Tensor, evidence: Evidence) -> Tensor:
    """Return the mean of losses (N, L, H, W) that hold where each label is the true one, by class weights."""
    weights = evidence.class_weights[:, None, None]
    smoothing = evidence.options.smoothing
    truth = torch.lerp(evidence.truth, evidence.known / each.shape[1], smoothing) if smoothing else evidence.truth
    total = (weights * evidence.truth).sum()
    return (weights * truth * each).sum() / total.clamp(min=TINY) * (total > 0)


def _mean_of_labels(each: Tensor, defined: Tensor, evidence: Evidence) -> Tensor:
    """Return the mean of the losses (L,) of the labels that have one, by region weights."""
    weights = evidence.region_weights * defined
    return (weights * each).sum() / weights.sum().clamp(min=TINY)


def _counts(evidence: Evidence) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels of each label that are hits, predicted and labelled, (L,) each."""
    proba, truth = evidence.proba, evidence.truth
    hits, predicted, labelled = (shares.sum(dim=(0, 2, 3)) for shares in (torch.minimum(proba, truth), proba, truth))
    return hits, predicted, labelled


def _jaccard_steps(truth: Tensor, known: Tensor) -> Tensor:
    """Return by how much 1 - the Jaccard index grows with each further pixel (n,) that is wrong, float32.

    In float64: these are differences of sums over all pixels.
    """
    positives = truth.sum()
    lost = 1 - (positives - truth.cumsum(0)) / (positives + (known - truth).cumsum(0)).clamp(min=TINY)
    return torch.diff(lost, prepend=lost.new_zeros(1)).float()
