"""What a person touches: the verbs of the studio and its command line."""
