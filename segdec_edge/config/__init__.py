"""What users write: TOML files as frozen pydantic models, every mistake reported at once."""
