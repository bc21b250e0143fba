"""A package of that name, so that no other of the same name on the path is taken for it."""
