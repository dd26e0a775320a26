"""Models of WeSpeaker."""
