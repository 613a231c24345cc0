"""What finished trials are made into without training: ensembles, soups, temperatures, views.

Importing this package imports no torch.
"""
