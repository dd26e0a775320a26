"""Models of SpeechBrain."""
