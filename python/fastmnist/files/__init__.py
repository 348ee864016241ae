"""Bytes on disk: all or nothing, a header and tensors, networks as JSON and arrays, compressed.

No torch."""
