"""What the store does inside a transaction: a function a statement, each given the connection."""
