"""Which singular-vector columns each concept may tune: allocation, use counts, overlaps."""
