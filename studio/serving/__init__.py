"""Several concepts in one model without merging."""
