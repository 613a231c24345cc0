"""Texts: data sets of them, their tokens in the cache, and batches of tokens."""
