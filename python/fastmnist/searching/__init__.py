"""Which optimizations to take: recipes, what they make of a model, and a search over them."""
