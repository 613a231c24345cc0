"""One trial on several devices: what `devices_per_trial` needs, and nothing else knows of.

`Followers` are the processes that train it with this one, `SharedBatches` computes in each of them.
"""

from bench.training.data_parallel.followers import Follow, Followers
from bench.training.data_parallel.ranks import Ranks
from bench.training.data_parallel.shared import SharedBatches

__all__ = ["Follow", "Followers", "Ranks", "SharedBatches"]
