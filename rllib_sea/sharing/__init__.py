"""A run's policy and its preferences as folders for the Hugging Face hub, each with its card."""
