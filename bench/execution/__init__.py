"""Who does what: trials cut into tasks that share epochs, and the processes that perform them.

`jobs` and `tree` say what there is to do, `epoch_keys` what is the same, `work` how much it is,
`engine` performs a task, `executors` run many.
"""

PRELOADED = ("bench.execution.engine", "torchvision.models")
"""What processes that perform tasks import first: it takes seconds, mostly in torch."""
