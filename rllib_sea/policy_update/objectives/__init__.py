"""What the policy update minimises: pure functions of log-probabilities."""
