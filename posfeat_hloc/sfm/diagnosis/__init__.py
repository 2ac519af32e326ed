"""Why images are not registered: measurements, their likely causes, and what to change."""
