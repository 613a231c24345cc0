"""The winner at work: a trial that has been trained is opened, and classifies what it has not seen.

Importing this package imports no torch.
"""

from __future__ import annotations

from bench.prediction.choice import Chosen, chosen_trial
from bench.prediction.load import load

__all__ = ["Chosen", "chosen_trial", "load"]
