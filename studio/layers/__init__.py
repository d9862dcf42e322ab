"""Adapted layers and the algebra on their weights: SVD bases, low-rank products, rotations."""
