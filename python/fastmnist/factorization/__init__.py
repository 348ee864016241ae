"""Low rank: a layer's matrix as the product of two thin ones.

Reading order: ``config`` (how low a rank), ``moments`` (what the layers are given), ``svd`` (the
best factors), ``factorizing`` (the transform).
"""
