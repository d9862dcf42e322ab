"""Captions and masks that other models make."""
