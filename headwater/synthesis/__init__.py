"""Generated text and code as tables: what makes it, what verifies it, and where it came from."""
