"""Prior-weighted logistic regression, which calibration and fusion learn by. In: inputs and truth of trials.
Out: weights and an offset that make the cross-entropy least (Brümmer and du Preez, Comput. Speech Lang. 2006)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import TrainingError
from xvectors.metrics.detection_cost import bayes_threshold, softplus

MOST_STEPS = 100

Values = NDArray[np.float64]


def logistic_regression(inputs: Values, labels: NDArray[np.bool_], p_target: float, penalty: float) -> Values:
    """Weights [d + 1], the last of them the offset, so that inputs @ weights[:-1] + weights[-1] are LLRs.

    Args:
        inputs: [m, d], of about unit deviation.
        labels: [m] whether each is a target trial; both kinds are needed.
        p_target: the prior at which the cross-entropy is least.
        penalty: on half the squared weights, the offset excepted: keeps separable trials from infinite weights.

    Newton's method with steps that are halved where they overshoot. Raises TrainingError where it does not settle.
    """
    design = np.hstack([inputs, np.ones((len(inputs), 1))])
    share = np.where(labels, p_target / labels.sum(), (1 - p_target) / (~labels).sum())
    sign, prior = np.where(labels, 1.0, -1.0), -bayes_threshold(p_target)
    ridge = np.append(np.full(inputs.shape[1], penalty), 0.0)

    def loss(weights: Values) -> float:
        return float(share @ softplus(-sign * (design @ weights + prior)) + 0.5 * ridge @ weights**2)

    weights = np.zeros(design.shape[1])
    for _ in range(MOST_STEPS):
        wrong = np.exp(-softplus(sign * (design @ weights + prior)))
        gradient = -design.T @ (share * sign * wrong) + ridge * weights
        curvature = (design * (share * wrong * (1.0 - wrong))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        decrement = float(gradient @ step)
        if decrement < 1e-14:
            return weights
        length, before = 1.0, loss(weights)
        while loss(weights - length * step) > before - 0.25 * length * decrement and length > 1e-6:
            length /= 2.0
        weights = weights - length * step
    raise TrainingError(
        f"the logistic regression did not settle in {MOST_STEPS} steps: look for scores far from all others, or leave "
        "out inputs that repeat one another"
    )
