"""Pictures as they come in: reading, checking, captions and masks."""
