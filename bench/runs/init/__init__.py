"""A suite for a folder of images: looked at, chosen for, written with the reasons in comments.

`write` is what `bench init` calls; it looks with `examine` and chooses with `choose`.
"""
