"""How one trial is trained: what every way to train shares, and nothing of other trials.

`loop` trains a plan, `stacked_heads` many heads on one frozen trunk; `trial` is what both work on,
`state` what they leave behind. Others start at `loop.train`, or at `loop.Branch` epoch by epoch.
"""
