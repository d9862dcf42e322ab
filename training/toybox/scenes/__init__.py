"""The rendered scenes that toybox is trained on, with captions."""
