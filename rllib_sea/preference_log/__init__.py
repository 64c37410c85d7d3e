"""The preference log: every question, every verdict, on the disk before anything is learned."""
