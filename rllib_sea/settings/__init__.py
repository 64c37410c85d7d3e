"""A key once: what values may be."""
