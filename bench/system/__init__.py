"""The machine, the disk and the network: what knows nothing of training.

Cache folders and their store, downloads, processes, devices, and text that can do nothing but be
read.
"""
