"""Uploaded code as an upstream: its process is the runner's care, and is spoken to through the runner's socket."""
