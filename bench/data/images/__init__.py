"""Images: data sets of them, decoding, preparing once, and how training varies them.

What others need is in `bench.data`, and `augmentations.Augmenter`.
"""
