"""What a layer is given: ranges of inputs, and the rules that make them of what was seen."""
