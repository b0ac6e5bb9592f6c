"""What the commands share, and the small commands. Importing this imports nothing heavy."""
