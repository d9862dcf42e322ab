"""Regions of an image, each with its own prompt: given as boxes or masks, or found while sampling."""
