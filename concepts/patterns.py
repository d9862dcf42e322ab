"""What names and class words look like."""

import re

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
CLASS_WORD = re.compile(r"[^\W\d_][\w '-]{0,39}")
