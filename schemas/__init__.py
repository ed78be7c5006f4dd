"""The formats everything else speaks: Pydantic only, light enough to import in a command's first instant."""
