"""What a run of some size can show, told before anything is trained."""

from __future__ import annotations

import math

from bench.errors import counted
from bench.results.analysis.comparison import look_level
from bench.results.analysis.crossed import LEAST_GROUPS, LEAST_SEEDS, MOST_PRIOR
from bench.results.analysis.distributions import normal_upper_quantile, student_upper_quantile

ACCURACY = 0.9
"""What is assumed of a strategy's accuracy, where nothing is known yet."""

LUCK = 0.005
"""The standard deviation of accuracy over trainings that is assumed: half a point."""

DIFFERING = 0.08
"""The share of test samples on which two models of that accuracy are assumed to differ."""

POWER = 0.8


def outlook(strategies: int, seeds: int, samples: int, groups: int = 0) -> str:
    """Which differences of accuracy so many seeds and test samples are likely to show.

    `groups` are those that the samples come in, if they do.
    """
    pairs = strategies * (strategies - 1) // 2
    size = f"{strategies} strategies, {counted(seeds, 'seed')}, {counted(samples, 'test image')}"
    if groups:
        size += f" in {counted(groups, 'group')}"
    if 0 < groups < LEAST_GROUPS:
        return f"{size}: nothing can be claimed about other groups, which takes {LEAST_GROUPS}"
    if seeds < LEAST_SEEDS:
        return (
            f"{size}: claims can be about the trained models only; claims about strategies need "
            f"{LEAST_SEEDS} seeds or more"
        )
    least = 100 * shown(strategies - 1, pairs, seeds, samples)
    alike = ", and larger ones only where images of a group are right or wrong together"
    return (
        f"{size}: differences of about {least:.1f} points or more will show, if accuracy is about "
        f"{100 * ACCURACY:.0f} % and its standard deviation over trainings half a point"
        f"{alike if groups else ''}"
    )


def shown(independent: int, pairs: int, seeds: int, samples: int) -> float:
    """The difference of accuracy that is claimed with power 0.8 under the assumptions above."""
    # Half of what two models differ in goes with the image, half with the single training.
    luck, rest = 2 * LUCK**2, DIFFERING / 2
    variance = luck / seeds + rest / samples + rest / (samples * seeds)
    own, share = seeds - 1, rest / (rest + samples * luck)
    freedom = own + share * min(MOST_PRIOR, (independent - 1) * own)
    wanted = student_upper_quantile(look_level(1) / pairs / 2, freedom)
    return float((wanted + normal_upper_quantile(1 - POWER)) * math.sqrt(variance))
