"""Image files in: what they hold, how they are decoded, turned, resized and masked; frames of videos."""
