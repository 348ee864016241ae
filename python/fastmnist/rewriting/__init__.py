"""What every transform does to a model: copy it, trace it, choose layers, swap them, note it."""
