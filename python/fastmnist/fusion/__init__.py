"""Linear, BatchNorm1d and activation in one layer: :func:`fastmnist.fuse`."""
