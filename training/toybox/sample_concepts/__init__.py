"""Renders the twelve sample concepts."""
