"""How well toybox and its judges do."""
