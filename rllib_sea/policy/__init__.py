"""The policy under alignment: models by name, tokenization, samplers, its RLModule."""
