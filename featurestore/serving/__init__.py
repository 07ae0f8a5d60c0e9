"""Online lookups: request -> keys -> rows -> columns, prepared once per service."""
