"""Algorithm 2, line 6: what is asked of whom, and what comes back."""
