"""Queries that each method needs on SmolLM2-135M, the bundled prompts and the embedding oracle."""
