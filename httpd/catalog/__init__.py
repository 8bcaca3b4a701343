"""Names and references in a database: SQLite beside the store, or PostgreSQL by its URL."""
