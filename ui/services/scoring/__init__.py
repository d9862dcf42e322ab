"""What scores, compares and analyses trained concepts."""
