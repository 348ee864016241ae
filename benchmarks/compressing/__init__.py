"""How ``benchmarks/compression.py`` makes its records and its comparisons."""
