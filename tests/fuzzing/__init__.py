"""Importers given valid files of which one part was changed, and files of no tool: `python -m tests.fuzzing`."""
