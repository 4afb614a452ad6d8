"""An editor that knows the language: what is told of a text and a position, as data; and the server that tells it."""
