"""What annotators export, turned into the folder layout. One reader a format; shapes become masks in one place."""
