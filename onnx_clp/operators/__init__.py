"""What an operator is: its attributes and what it computes."""
