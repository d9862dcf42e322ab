"""The studies: benchmarks of adapters and merge methods on the sample concepts, and their reports."""
