"""Individuals of twelve kinds, rendered procedurally: their traits (`traits`) and their drawing (`figure`)."""
