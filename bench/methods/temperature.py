"""Temperature scaling: how sure predictions may be, by their loss on a validation split.

Guo et al., On Calibration of Modern Neural Networks, 2017. Probabilities are `[samples, classes]`,
labels class indices `[samples]`.
"""

from __future__ import annotations

import numpy as np

from bench.methods.metrics import Labels, Probabilities, log_loss

LOG_TEMPERATURES = (-7.0, 7.0)
"""Where the logarithm of a temperature is sought: e^-7 is as sharp as single precision can tell."""


def fit_temperature(probabilities: Probabilities, labels: Labels) -> float:
    """The temperature T > 0 with the least log loss of softmax(log p / T).

    The loss is convex in 1/T; it is sought by its logarithm. It is never above that of T = 1.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return log_loss(labels, tempered(probabilities, float(np.exp(log_temperature))))

    found = minimize_scalar(
        loss, bounds=LOG_TEMPERATURES, method="bounded", options={"xatol": 1e-8}
    )
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def tempered(probabilities: Probabilities, temperature: float) -> Probabilities:
    """softmax(log p / T): the order of the classes stays as it is."""
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)) / temperature
    powers: Probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
