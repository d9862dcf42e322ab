"""The layers that are adapted, and linear algebra on their weights: SVD bases, low-rank products, rotations."""
