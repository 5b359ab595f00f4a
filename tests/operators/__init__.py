"""Examples of every operator of the table, and what holds of each by trying."""
