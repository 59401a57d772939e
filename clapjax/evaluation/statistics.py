import numpy as np

from clapjax.evaluation.result import Metric


def measure(values, metric=np.mean, groups=None) -> Metric:
    value = float(metric(values))
    return Metric(value, value, value)
