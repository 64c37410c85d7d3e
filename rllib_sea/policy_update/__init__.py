"""Algorithm 2, line 8: the Ray Train run that updates the policy, and what it minimises."""
