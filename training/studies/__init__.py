"""The studies: experiments that compare what the studio offers, and their reports."""
