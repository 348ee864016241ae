"""From a torch module to one native call."""
