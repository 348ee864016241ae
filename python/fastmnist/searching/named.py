NAMED = {}
