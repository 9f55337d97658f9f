"""The known faces: a SQL store, which is the truth, a vector index, its cache, and the matching rules."""
