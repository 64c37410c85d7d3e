"""Direct losses on preference pairs, and the Ray Train run that applies them."""
