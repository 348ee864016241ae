"""int8 layers as arrays: what they hold, how they are made of float ones, what they compute.

Reading order: ``network`` (the layers), ``quantizer`` (float to int8), ``reference`` (the
arithmetic in NumPy), ``sparse_encoding`` and ``packed_indices`` (shorter forms). No machine in it,
no file, no torch.
"""
