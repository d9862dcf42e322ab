"""What the command line, the page and the API do alike."""
