"""Metrics and protocols; no extraction, no files of images."""
