"""The drawn world that toybox learns from, with captions."""
