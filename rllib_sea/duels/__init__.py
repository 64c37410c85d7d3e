"""What flows through a round: candidates, duels, preference pairs."""
