"""What language a text is in: natural languages, programming languages, and fastText models in general."""
