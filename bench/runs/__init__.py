"""From a suite file to a finished run: `resolve` says what there is to do, `run` does it.

`prepare` makes jobs of it, `source_weights` pretrains, `time_estimate` and `lr_find` are what their
commands call, `catalogue` is what a suite may name.
"""
