"""The twelve sample concepts, drawn."""
