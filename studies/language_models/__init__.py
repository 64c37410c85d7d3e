"""What the language-model tiers share: methods, runs, curves, tables and the command."""
