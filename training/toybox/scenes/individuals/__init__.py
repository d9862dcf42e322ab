"""Individuals of twelve kinds, drawn by code: what they may be (`traits`) and how they look (`figure`)."""
