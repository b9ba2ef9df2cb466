"""Feed files for messages that no feed knows: guessed from samples, written with comments."""
