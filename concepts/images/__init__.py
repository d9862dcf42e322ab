"""Pictures of a concept: import, decoding, checks, captions and masks."""
