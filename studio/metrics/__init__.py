"""Metrics of generated pictures and of trained adapters."""
