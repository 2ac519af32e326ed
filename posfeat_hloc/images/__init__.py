"""Image files: formats, decoding, rotation, resizing and masks; frames of videos."""
