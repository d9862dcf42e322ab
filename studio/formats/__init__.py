"""Exports concepts to other tools' files, and imports such files as concepts."""
