"""From a suite file to a finished run: `resolve` says what there is to do, `run` does it.

`check` reads the suite before anything heavy is imported, `prepare` makes jobs of it,
`source_weights` pretrains. `plan`, `lr_find`, `listing`, `doctor` and `init` are what commands and
calls of these names do; `catalogue` is what a suite may name.
"""
