"""Classifiers of scikit-learn's kind that decide as an ensemble does: thresholds of one model, a blend of several."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    PredefinedSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
    cross_val_predict,
)
from sklearn.utils import Bunch, assert_all_finite, check_random_state, column_or_1d, get_tags, indexable
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from terrablend.api.decisions import MODEL, FittedDecision, blend, tune_thresholds

__all__ = ["BlendClassifier", "ThresholdTuner"]

MULTILABEL = "multilabel-indicator"
"""What scikit-learn calls labels (n, K) of 0 and 1."""


class DecidingClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Predict out of fold with each estimator, decide on that, and fit each estimator again to all rows.

    Attributes
    ----------
    decision_ : FittedDecision
        ``score_``, ``interval_``, ``verdict_``, ``weights_``, ``thresholds_``, …: nested over the folds of ``cv``.
    classes_ : (K,) array
    estimators_ : list of estimators, fitted to all rows
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.
    """

    # Groups are asked for wherever metadata are routed; sample weights are where `set_fit_request` asks for them.
    __metadata_request__fit = {"groups": True}  # noqa: RUF012

    def __init__(
        self, *, metric: Any, cv: Any, settings: Mapping[str, Any] | None, n_jobs: int | None, random_state: Any
    ) -> None:
        self.metric = metric
        self.cv = cv
        self.settings = settings
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, groups: Any = None, sample_weight: Any = None, **params: Any) -> Self:  # noqa: N803
        """Predict rows out of fold, decide on them, and fit to all of them.

        Parameters
        ----------
        X : (n, F) array, sparse matrix or DataFrame
        y : (n,) array, or of tags (n, K) of 0 and 1
        groups : (n,) array, optional
            Rows that know much of each other, such as the pixels of a scene: they share a fold, and intervals are over
            groups. By default each row is by itself.
        sample_weight : (n,) array, optional
            Also given to the estimators' own `fit`.
        **params
            Further metadata for the estimators, where scikit-learn routes them.

        Raises
        ------
        ValueError
            If there are fewer than two classes, no weights that can be used, or ``cv`` does not hold each row out once.
        TypeError
            If an estimator takes no sample weights.
        EnsembleError
            If a group lies in several folds, or a setting is unknown.
        """
        validate_data(self, X, y, skip_check_array=True)
        X, y, groups, sample_weight = indexable(X, y, groups, sample_weight)  # noqa: N806
        y = self._labels(y, sample_weight)
        named, of_each = dict(self._named_estimators()), self._route(groups, sample_weight, params)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        fold = self._deal(X, y, groups, seed)
        probas = {
            name: _one_array(
                cross_val_predict(
                    estimator,
                    X,
                    y,
                    cv=PredefinedSplit(fold),
                    method="predict_proba",
                    n_jobs=self.n_jobs,
                    params=of_each[name],
                )
            )
            for name, estimator in named.items()
        }
        options = {"groups": groups, "folds": fold, "sample_weight": sample_weight, "seed": seed}
        chosen = {} if self.metric is None else {"metric": self.metric}
        self.decision_ = self._decide(probas, y, {**options, **chosen, **(self.settings or {})})
        self.estimators_ = [clone(estimator).fit(X, y, **of_each[name]) for name, estimator in named.items()]
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Return calibrated and blended probabilities, (n, K)."""
        probas = self._probas(X)
        return self.decision_.predict_proba(probas)

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the label of each row, or of tags (n, K) of 0 and 1."""
        probas = self._probas(X)
        return self.decision_.predict(probas)

    def get_metadata_routing(self) -> Any:
        """Return who is given which metadata; see scikit-learn's user guide."""
        router = MetadataRouter(owner=self).add_self_request(self)
        for name, estimator in self._named_estimators():
            router.add(**{name: estimator}, method_mapping=MethodMapping().add(caller="fit", callee="fit"))
        return router

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        its = [get_tags(estimator) for _, estimator in self._named_estimators()]
        tags.input_tags.sparse = all(one.input_tags.sparse for one in its)
        tags.input_tags.allow_nan = all(one.input_tags.allow_nan for one in its)
        tags.classifier_tags.multi_label = all(one.classifier_tags and one.classifier_tags.multi_label for one in its)
        return tags

    def _named_estimators(self) -> Sequence[tuple[str, Any]]:
        raise NotImplementedError

    def _decide(self, probas: Mapping[str, Any], y: NDArray[Any], options: Mapping[str, Any]) -> FittedDecision:
        raise NotImplementedError

    def _probas(self, X: Any) -> dict[str, Any]:  # noqa: N803
        check_is_fitted(self)
        names = (name for name, _ in self._named_estimators())
        return {
            name: _one_array(estimator.predict_proba(X))
            for name, estimator in zip(names, self.estimators_, strict=True)
            if name in self.decision_.ensemble.used
        }

    def _labels(self, y: Any, sample_weight: Any) -> NDArray[Any]:
        """Return labels as an array, and keep their classes."""
        assert_all_finite(np.asarray(y), input_name="y")
        check_classification_targets(y)
        if type_of_target(y) == MULTILABEL:
            labels = np.asarray(y)
            self.classes_ = np.arange(labels.shape[1])
            return labels
        labels = np.asarray(column_or_1d(y, warn=True))
        self.classes_ = np.unique(labels)
        counted = labels if sample_weight is None else labels[_counted(sample_weight)]
        if (count := len(np.unique(counted))) < 2:
            raise ValueError(f"expected labels of two classes or more, got {count} class{'es'[: 2 * (count != 1)]}.")
        return labels

    def _deal(self, X: Any, y: NDArray[Any], groups: Any, seed: int) -> NDArray[np.int64]:  # noqa: N803
        """Return the fold of each row."""
        splitter = self.cv
        if splitter is None or isinstance(splitter, int):
            kinds = (KFold, GroupKFold) if type_of_target(y) == MULTILABEL else (StratifiedKFold, StratifiedGroupKFold)
            splitter = kinds[groups is not None](splitter or 5, shuffle=True, random_state=seed)
        fold, times = np.zeros(len(y), np.int64), np.zeros(len(y), np.int64)
        with warnings.catch_warnings():
            # That groups lie in one fold each is checked where they are decided on.
            warnings.filterwarnings("ignore", "The groups parameter is ignored")
            tests = [test for _, test in check_cv(splitter, y, classifier=True).split(X, y, groups)]
        for number, test in enumerate(tests):
            fold[test] = number
            times[test] += 1
        if (times != 1).any():
            raise ValueError(
                f"expected cv to hold each row out once, got {int((times != 1).sum())} rows held out more or less "
                "often. Take KFold, GroupKFold or the like."
            )
        return fold

    def _route(self, groups: Any, sample_weight: Any, params: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """Return what the fit of each estimator is given."""
        named = self._named_estimators()
        if get_config()["enable_metadata_routing"]:
            given = {"groups": groups, "sample_weight": sample_weight, **params}
            routed = process_routing(self, "fit", **{key: value for key, value in given.items() if value is not None})
            return {name: routed[name].fit for name, _ in named}
        if params:
            raise TypeError(
                f"fit: expected groups and sample_weight, got {', '.join(params)}. To give more to the estimators call "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        if sample_weight is None:
            return {name: {} for name, _ in named}
        for name, estimator in named:
            if not has_fit_parameter(estimator, "sample_weight"):
                raise TypeError(
                    f"estimator {name}: expected one whose fit takes sample_weight, got {type(estimator).__name__}. "
                    "Leave weights out, or say who gets them: sklearn.set_config(enable_metadata_routing=True)."
                )
        return {name: {"sample_weight": sample_weight} for name, _ in named}


class ThresholdTuner(DecidingClassifier):
    """Tune the thresholds of a classifier on rows that it was not fitted to.

    Parameters
    ----------
    estimator : classifier with ``predict_proba``
    metric : str or dict, optional
        As under ``ensemble`` in an experiment file; dice, macro_iou or, of tags, macro_dice by default.
    cv : int, splitter or iterable of (train, test), optional
        Holds each row out once; 5 stratified folds by default, of groups where there are some.
    settings : dict, optional
        Further settings as under ``ensemble`` in an experiment file, such as ``{"calibration": "temperature"}``.
    n_jobs : int, optional
        Folds that are fitted at the same time.
    random_state : int, RandomState or None

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = make_classification(2000, weights=[0.9], class_sep=0.7, random_state=0)
    >>> tuner = ThresholdTuner(LogisticRegression(), metric="f2").fit(X, y, groups=np.arange(2000) // 20)
    >>> [threshold] = tuner.decision_.thresholds_.values()
    >>> threshold < 0.4, int(tuner.predict(X).sum()) > int(LogisticRegression().fit(X, y).predict(X).sum())
    (True, True)
    """

    def __init__(
        self,
        estimator: Any,
        *,
        metric: Any = None,
        cv: Any = None,
        settings: Mapping[str, Any] | None = None,
        n_jobs: int | None = None,
        random_state: Any = 0,
    ) -> None:
        super().__init__(metric=metric, cv=cv, settings=settings, n_jobs=n_jobs, random_state=random_state)
        self.estimator = estimator

    @property
    def estimator_(self) -> Any:
        """The estimator, fitted to all rows."""
        check_is_fitted(self)
        return self.estimators_[0]

    def _named_estimators(self) -> Sequence[tuple[str, Any]]:
        return [(MODEL, self.estimator)]

    def _decide(self, probas: Mapping[str, Any], y: NDArray[Any], options: Mapping[str, Any]) -> FittedDecision:
        return tune_thresholds(y, probas[MODEL], **options)


class BlendClassifier(DecidingClassifier, _BaseComposition):  # type: ignore[misc]
    """Blend classifiers by what each says of rows that it was not fitted to.

    Parameters
    ----------
    estimators : list of (str, classifier with ``predict_proba``)
    metric, cv, settings, n_jobs, random_state
        As of `ThresholdTuner`.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = make_classification(500, n_informative=4, random_state=0)
    >>> members = [("line", LogisticRegression()), ("forest", RandomForestClassifier(20, random_state=0))]
    >>> blend = BlendClassifier(members, metric="dice").fit(X, y)
    >>> sorted(blend.decision_.weights_), blend.score(X, y) > 0.85, blend.predict_proba(X[:3]).shape
    (['forest', 'line'], True, (3, 2))
    """

    def __init__(
        self,
        estimators: Sequence[tuple[str, Any]],
        *,
        metric: Any = None,
        cv: Any = None,
        settings: Mapping[str, Any] | None = None,
        n_jobs: int | None = None,
        random_state: Any = 0,
    ) -> None:
        super().__init__(metric=metric, cv=cv, settings=settings, n_jobs=n_jobs, random_state=random_state)
        self.estimators = estimators

    @property
    def named_estimators_(self) -> Any:
        """Name → estimator, fitted to all rows."""
        check_is_fitted(self)
        names = [name for name, _ in self.estimators]
        return Bunch(**dict(zip(names, self.estimators_, strict=True)))

    def get_params(self, deep: bool = True) -> Any:
        """Return parameters, with those of the estimators by name."""
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, or an estimator by its name, or its parameters as ``forest__max_depth``."""
        self._set_params("estimators", **params)
        return self

    def _named_estimators(self) -> Sequence[tuple[str, Any]]:
        return self.estimators

    def _decide(self, probas: Mapping[str, Any], y: NDArray[Any], options: Mapping[str, Any]) -> FittedDecision:
        self._validate_names(list(probas))
        return blend(probas, y, **options)


def _counted(sample_weight: Any) -> NDArray[np.bool_]:
    """Return the rows that count, (n,)."""
    weight = np.asarray(sample_weight)
    if weight.ndim != 1:
        raise ValueError(f"expected sample_weight (n,), a number a row, got {weight.shape}.")
    counted = np.asarray(weight > 0, bool)
    if not counted.any():
        raise ValueError("expected a sample_weight above zero somewhere, got none.")
    return counted


def _one_array(proba: Any) -> NDArray[np.floating]:
    """Return probabilities as one array, where those of tags come as an array (n, 2) each."""
    if isinstance(proba, list):
        return np.column_stack([of_tag[:, 1] for of_tag in proba])
    return np.asarray(proba)
