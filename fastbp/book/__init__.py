"""The book's own modules, under the names its readers know."""
