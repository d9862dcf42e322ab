"""Captions and masks by other models."""
