"""Float layers to int8 or 16 bits: at once, or by steps (prepare, run or train, convert)."""
